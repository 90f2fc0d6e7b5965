// Rows of a KV cache replaced in place.

import { elementCount } from '../../tensor/shape.ts';
import { checkIndex, type Kernel, numbers, target } from './kernel.ts';

export const cacheWrite: Kernel = ([cache, x, start], [y]) => {
  const [from, to] = [numbers(x), target(y)]; // `to` is the cache's own memory
  const [B, S] = cache.shape;
  const T = x.shape[1];
  const first = checkIndex('cacheWrite', 'start', numbers(start)[0], 0, S - T);
  const row = elementCount(cache.shape.slice(2));
  for (let b = 0; b < B; b++) to.set(from.subarray(b * T * row, (b + 1) * T * row), (b * S + first) * row);
};
