// Softmax over the last axis, and the log of the normalizer that the losses share.

import { type Kernel, type Numbers, numbers, target } from './kernel.ts';

/** log Σ e^x of `count` numbers from `first` on, with the maximum taken out. */
export function logSumExp(values: Numbers, first: number, count: number): number {
  let largest = -Infinity;
  for (let i = first; i < first + count; i++) largest = Math.max(largest, values[i]);
  let sum = 0;
  for (let i = first; i < first + count; i++) sum += Math.exp(values[i] - largest);
  return largest + Math.log(sum);
}

export const softmax: Kernel = ([x], [y]) => {
  const [from, to] = [numbers(x), target(y)];
  const C = x.shape[x.shape.length - 1];
  for (let first = 0; first < to.length; first += C) {
    const normalizer = logSumExp(from, first, C);
    for (let i = first; i < first + C; i++) to[i] = Math.exp(from[i] - normalizer);
  }
};
