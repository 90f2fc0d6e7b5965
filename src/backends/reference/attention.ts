// Attention, one query at a time: scores of the keys it sees, their softmax, the weighted sum of the values.

import type { AttentionAttributes } from '../../graph/ops/attention.ts';
import { checkIndex, dot, doubles, type Kernel, numbers, target } from './kernel.ts';
import { logSumExp } from './softmax.ts';

export const attention: Kernel<AttentionAttributes> = ([q, k, v, start], [y], { scale, causal, window }) => {
  const [queries, keys, values, to] = [doubles(q), doubles(k), doubles(v), target(y)];
  const [B, T, H, D] = q.shape;
  const [, S, G] = k.shape;
  const offset = start ? numbers(start)[0] : 0;
  if (causal) checkIndex('attention', 'start', offset, 0, S - T);
  const scores = new Float64Array(S);
  const sums = new Float64Array(D);
  for (let b = 0; b < B; b++) {
    for (let t = 0; t < T; t++) {
      const last = causal ? offset + t : S - 1;
      const first = window > 0 ? Math.max(0, last - window + 1) : 0;
      for (let h = 0; h < H; h++) {
        const g = Math.floor(h / (H / G));
        const query = ((b * T + t) * H + h) * D;
        const keyAt = (s: number) => ((b * S + s) * G + g) * D;
        for (let s = first; s <= last; s++) scores[s] = scale * dot(queries, query, keys, keyAt(s), D);
        const normalizer = logSumExp(scores, first, last - first + 1);
        sums.fill(0);
        for (let s = first; s <= last; s++) {
          const weight = Math.exp(scores[s] - normalizer);
          const value = keyAt(s);
          for (let d = 0; d < D; d++) sums[d] += weight * values[value + d];
        }
        to.set(sums, query);
      }
    }
  }
};
