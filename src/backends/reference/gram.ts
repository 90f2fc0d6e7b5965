// Sums of outer products of rows, for each expert where rows are routed.

import type { GramAttributes } from '../../graph/ops/gram.ts';
import { checkIndex, doubles, type Kernel, numbers, target } from './kernel.ts';

export const gramUpdate: Kernel<GramAttributes> = ([gram, a, ...rest], [y], { cross, routed }) => {
  const K = gram.shape[gram.shape.length - 1];
  const left = doubles(a);
  const right = cross ? doubles(rest[0]) : left;
  const to = target(y); // the state's own memory
  const sums = Float64Array.from(to);
  const add = (matrix: number, row: number) => {
    for (let i = 0; i < K; i++) {
      const x = left[row * K + i];
      const at = (matrix * K + i) * K;
      for (let j = cross ? 0 : i; j < K; j++) sums[at + j] += x * right[row * K + j];
    }
  };
  if (routed) {
    const indices = rest[cross ? 1 : 0];
    const slots = indices.shape[1];
    numbers(indices).forEach((e, i) => {
      checkIndex('gramUpdate', `expert index at position ${i}`, e, 0, gram.shape[0] - 1);
      add(e, a.shape.length === 3 ? i : Math.floor(i / slots));
    });
  } else {
    for (let row = 0; row < a.shape[0]; row++) add(0, row);
  }
  to.set(sums);
};
