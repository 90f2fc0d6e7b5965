// Block Hadamard transform by butterflies: n log n additions in place of the n×n matrix.

import type { HadamardAttributes } from '../../graph/ops/hadamard.ts';
import { type Kernel, numbers, target } from './kernel.ts';

export const hadamard: Kernel<HadamardAttributes> = ([x, signs], [y], { blockSize }) => {
  const [from, to] = [numbers(x), target(y)];
  const sign = signs ? numbers(signs) : undefined;
  const block = new Float64Array(blockSize);
  for (let first = 0; first < to.length; first += blockSize) {
    for (let i = 0; i < blockSize; i++) block[i] = from[first + i] * (sign ? sign[i] : 1);
    for (let half = 1; half < blockSize; half *= 2) {
      for (let i = 0; i < blockSize; i++) {
        if (i & half) continue;
        const [u, v] = [block[i], block[i + half]];
        block[i] = u + v;
        block[i + half] = u - v;
      }
    }
    for (let i = 0; i < blockSize; i++) to[first + i] = block[i] / Math.sqrt(blockSize);
  }
};
