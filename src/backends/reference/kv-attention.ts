// Attention over a quantized cache, one query at a time, every key and value taken from the copy that the query sees.

import { dequantize } from '../../formats/quantize.ts';
import {
  type KvAttentionAttributes,
  quantizedKeysEnd,
  quantizedValuesEnd,
  ringRow,
} from '../../graph/ops/kv-attention.ts';
import type { AnyTensor } from '../../tensor/tensor.ts';
import { checkIndex, doubles, type Kernel, numbers, target } from './kernel.ts';
import { logSumExp } from './softmax.ts';

/** A packed cache changes from run to run: it is decoded each time, not kept as numbers() keeps weights. */
function decoded(tensor: AnyTensor): Float32Array {
  if (tensor.kind === 'packed') return dequantize(tensor.data);
  throw new Error('reference: a cache was planned as dense');
}

export const kvAttention: Kernel<KvAttentionAttributes> = (
  [q, keys, values, recentKeys, recentValues, start],
  [y],
  attributes,
) => {
  const { scale, window, sinks } = attributes;
  const [queries, to] = [doubles(q), target(y)];
  const [packedKeys, packedValues] = [decoded(keys), decoded(values)];
  const [exactKeys, exactValues] = [numbers(recentKeys), numbers(recentValues)];
  const [B, T, H, D] = q.shape;
  const [, S, G] = values.shape;
  const W = recentKeys.shape[1];
  const perChannel = attributes.keys === 'channel';
  const columns = keys.shape[3];
  const offset = checkIndex('kvAttention', 'start', start ? numbers(start)[0] : 0, 0, S - T);
  const scores = new Float64Array(S);
  const sums = new Float64Array(D);
  for (let b = 0; b < B; b++) {
    for (let t = offset; t < offset + T; t++) {
      const first = window > 0 ? Math.max(0, t - window + 1) : 0;
      const keysEnd = quantizedKeysEnd(t, attributes);
      const valuesEnd = quantizedValuesEnd(t, attributes);
      for (let h = 0; h < H; h++) {
        const g = Math.floor(h / (H / G));
        const query = ((b * T + t - offset) * H + h) * D;
        const exactAt = (s: number) => ((b * W + ringRow(s, W, sinks)) * G + g) * D;
        const packedAt = (s: number) => ((b * S + s) * G + g) * D;
        const key = (s: number, d: number) => {
          if (s < sinks || s >= keysEnd) return exactKeys[exactAt(s) + d];
          return packedKeys[perChannel ? ((b * G + g) * D + d) * columns + s - sinks : packedAt(s) + d];
        };
        const value = (s: number, d: number) =>
          s < sinks || s >= valuesEnd ? exactValues[exactAt(s) + d] : packedValues[packedAt(s) + d];
        for (let s = first; s <= t; s++) {
          let sum = 0;
          for (let d = 0; d < D; d++) sum += queries[query + d] * key(s, d);
          scores[s] = scale * sum;
        }
        const normalizer = logSumExp(scores, first, t - first + 1);
        sums.fill(0);
        for (let s = first; s <= t; s++) {
          const weight = Math.exp(scores[s] - normalizer);
          for (let d = 0; d < D; d++) sums[d] += weight * value(s, d);
        }
        to.set(sums, query);
      }
    }
  }
};
