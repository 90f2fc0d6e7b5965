// Scaled dot-product attention with grouped key/value heads, causal and sliding-window masks and a KV cache.
//
//   y[t, h] = Σ_s softmax_s(scale · q[t, h] · k[s, g]) v[s, g],  g = ⌊h / (H/G)⌋
//
// Query t stands at position start + t. With `causal` it sees keys s ≤ its position, with a window also only
// s > position − window; without `causal` it sees all S keys. The T×S scores are never stored as a whole.

import { printShape } from '../../tensor/shape.ts';
import { applyOp } from '../apply.ts';
import { denseShape, expectShape, indexShape, shapeError } from '../check.ts';
import type { OpDefinition, Value } from '../graph.ts';
import { f32 } from '../value-type.ts';

export interface AttentionAttributes {
  scale: number;
  causal: boolean;
  /** Number of keys that a query sees, itself included; 0: all. */
  window: number;
}

/** Inputs q, k, v and, optionally, start. */
export const attentionOp: OpDefinition<AttentionAttributes> = {
  name: 'attention',
  infer([q, k, v, start], { causal, window }) {
    const [B, T, H, D] = denseShape('attention', 'q', q, 4);
    const kShape = denseShape('attention', 'k', k, 4);
    const [, S, G] = kShape;
    expectShape('attention', 'k', kShape, [B, S, G, D], 'k must share batch and head dimension with q');
    expectShape('attention', 'v', denseShape('attention', 'v', v, 4), kShape, 'v must have the shape of k');
    if (H % G !== 0)
      throw shapeError(
        'attention',
        'query heads do not divide into key/value heads',
        `H ${H}, G ${G}`,
        'H a multiple of G',
        'check the head counts in the config',
      );
    if (start) expectShape('attention', 'start', indexShape('attention', 'start', start), [1], 'pass one position');
    if (!Number.isInteger(window) || window < 0 || (window > 0 && !causal))
      throw shapeError('attention', 'bad window', `${window}`, '0, or a whole number with causal', 'set causal: true');
    if (causal && !start && T > S)
      throw shapeError(
        'attention',
        'more queries than keys',
        printShape(q.shape),
        `T at most ${S}`,
        'pass start with a cache',
      );
    return [f32([B, T, H, D])];
  },
  flops([q, k], { causal }) {
    const [B, T, H, D] = q.shape;
    const S = k.shape[1];
    // A causal mask without a cache leaves about half of the score matrix.
    const pairs = causal && T === S ? (T * (T + 1)) / 2 : T * S;
    return 4 * B * H * D * pairs;
  },
  gradient: ({ inputs: [q, k, v, ...start], attributes }, [g]) =>
    g ? applyOp(attentionBackwardOp, [q, k, v, g, ...start], attributes) : [],
};

/**
 * q, k, v, dy and, optionally, start → dq, dk, dv. Probabilities p are computed again, so that no T×S scores are kept
 * between the passes: with δ = Σ_s p_s (dy · v_s), ds_s = p_s (dy · v_s − δ) · scale, dq = Σ_s ds_s k_s,
 * dk_s += ds_s q and dv_s += p_s dy, summed over the queries and over the heads that share a key head.
 */
export const attentionBackwardOp: OpDefinition<AttentionAttributes> = {
  name: 'attentionBackward',
  infer([q, k, v, dy, ...start], attributes) {
    const [y] = attentionOp.infer([q, k, v, ...start], attributes);
    expectShape('attentionBackward', 'dy', denseShape('attentionBackward', 'dy', dy), y.shape, 'dy has the shape of q');
    return [f32(q.shape), f32(k.shape), f32(v.shape)];
  },
  flops: (inputs, attributes) => 2.5 * (attentionOp.flops?.(inputs, attributes) ?? 0),
};

export interface AttentionOptions {
  /** 1/√D when absent. */
  scale?: number;
  causal?: boolean;
  window?: number;
  /** i32 [1]: the position of the first query; 0 when absent. */
  start?: Value;
}

/** q [B, T, H, D], k and v [B, S, G, D] → [B, T, H, D]. */
export function attention(q: Value, k: Value, v: Value, options: AttentionOptions = {}): Value {
  const { scale = 1 / Math.sqrt(q.type.shape.at(-1) ?? 1), causal = false, window = 0, start } = options;
  return applyOp(attentionOp, start ? [q, k, v, start] : [q, k, v], { scale, causal, window })[0];
}
