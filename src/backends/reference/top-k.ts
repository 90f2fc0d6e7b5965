// The k largest entries of each row, the lower index first on ties.

import type { TopKAttributes } from '../../graph/ops/top-k.ts';
import { type Kernel, numbers, target } from './kernel.ts';

export const topK: Kernel<TopKAttributes> = ([x], [values, indices], { k }) => {
  const [from, toValues, toIndices] = [numbers(x), target(values), target(indices)];
  const [N, E] = x.shape;
  for (let n = 0; n < N; n++) {
    const row = from.subarray(n * E, (n + 1) * E);
    const order = [...row.keys()].sort((i, j) => row[j] - row[i] || i - j);
    for (let j = 0; j < k; j++) {
      toValues[n * k + j] = row[order[j]];
      toIndices[n * k + j] = order[j];
    }
  }
};
