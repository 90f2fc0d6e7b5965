// targetMask: 1 where a target counts.

import { type Kernel, numbers, target } from './kernel.ts';

export const targetMask: Kernel = ([targets], [mask]) => {
  const [from, to] = [numbers(targets), target(mask)];
  for (let i = 0; i < to.length; i++) to[i] = from[i] >= 0 ? 1 : 0;
};
