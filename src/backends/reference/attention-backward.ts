// Gradients of attention, one query at a time: its probabilities again, then what it adds to dq, dk and dv.

import type { AttentionAttributes } from '../../graph/ops/attention.ts';
import { checkIndex, dot, doubles, type Kernel, numbers, target } from './kernel.ts';
import { logSumExp } from './softmax.ts';

export const attentionBackward: Kernel<AttentionAttributes> = (
  [q, k, v, dy, start],
  [dq, dk, dv],
  { scale, causal, window },
) => {
  const [queries, keys, values, incoming] = [doubles(q), doubles(k), doubles(v), doubles(dy)];
  const [toQ, toK, toV] = [target(dq), target(dk), target(dv)];
  const [B, T, H, D] = q.shape;
  const [, S, G] = k.shape;
  const offset = start ? numbers(start)[0] : 0;
  if (causal) checkIndex('attentionBackward', 'start', offset, 0, S - T);
  const weights = new Float64Array(S); // scores, then probabilities
  const slopes = new Float64Array(S); // dy · v
  const sums = new Float64Array(D);
  const keySums = new Float64Array(toK.length);
  const valueSums = new Float64Array(toV.length);
  for (let b = 0; b < B; b++) {
    for (let t = 0; t < T; t++) {
      const last = causal ? offset + t : S - 1;
      const first = window > 0 ? Math.max(0, last - window + 1) : 0;
      for (let h = 0; h < H; h++) {
        const g = Math.floor(h / (H / G));
        const query = ((b * T + t) * H + h) * D;
        const keyAt = (s: number) => ((b * S + s) * G + g) * D;
        for (let s = first; s <= last; s++) weights[s] = scale * dot(queries, query, keys, keyAt(s), D);
        const normalizer = logSumExp(weights, first, last - first + 1);
        let mean = 0;
        for (let s = first; s <= last; s++) {
          weights[s] = Math.exp(weights[s] - normalizer);
          slopes[s] = dot(incoming, query, values, keyAt(s), D);
          mean += weights[s] * slopes[s];
        }
        sums.fill(0);
        for (let s = first; s <= last; s++) {
          const score = scale * weights[s] * (slopes[s] - mean);
          const key = keyAt(s);
          for (let d = 0; d < D; d++) {
            sums[d] += score * keys[key + d];
            keySums[key + d] += score * queries[query + d];
            valueSums[key + d] += weights[s] * incoming[query + d];
          }
        }
        toQ.set(sums, query);
      }
    }
  }
  toK.set(keySums);
  toV.set(valueSums);
};
