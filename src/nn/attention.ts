// Self-attention of Llama-style decoders: grouped-query heads, rotary positions, optional norm of q and k, optional
// sliding window, optional key/value cache.
//
// Method: q, k, v are linear in x; q and k are RMS-normalised over the head dimension where the family does so, then
// rotated by position; H query heads share G key/value heads; scores are scaled by 1/√D. With a cache the new keys and
// values are written at rows start … start+T−1 and the queries attend to the whole cache up to their own position. Keys
// and values may be quantized, in a cache and in whole windows alike (kv-cache.ts).

import type { Value } from '../graph/graph.ts';
import { attention } from '../graph/ops/attention.ts';
import { cacheWrite } from '../graph/ops/cache-write.ts';
import { reshape } from '../graph/ops/layout.ts';
import { rmsNorm } from '../graph/ops/norm.ts';
import { rope } from '../graph/ops/rope.ts';
import { type Rotation, rotateInput } from './hadamard.ts';
import { type KvScheme, type KvStates, kvAppend, kvWindow } from './kv-cache.ts';
import { type LinearParams, linear } from './linear.ts';

export interface AttentionParams {
  /** [H·D, C] */
  readonly q: LinearParams;
  /** [G·D, C] */
  readonly k: LinearParams;
  /** [G·D, C] */
  readonly v: LinearParams;
  /** [C, H·D] */
  readonly output: LinearParams;
  /** [D] each */
  readonly qNorm?: Value;
  readonly kNorm?: Value;
}

export interface AttentionShape {
  readonly batch: number;
  readonly tokens: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly epsilon: number;
  /** Keys that a query sees, itself included; 0 for all. */
  readonly window: number;
  /** Multiplies cos and sin of the rotation. */
  readonly ropeMagnitude: number;
  /** Rotates each head of q and k after the rotation by position: equal scores, keys without outliers (QuaRot). */
  readonly queryKey?: Rotation;
  /** How keys and values are quantized; absent: they are not. */
  readonly kv?: KvScheme;
}

/** Where a token stands and what went before it. */
export interface Positions {
  /** i32 [B, T] */
  readonly positions: Value;
  /** f32 [R/2] */
  readonly frequencies: Value;
}

/** Keys and values of earlier tokens, states [B, S, G, D] or those of a scheme, and the row of the first new one, i32 [1]. */
export type Cache = Pick<KvStates, 'keys' | 'values' | 'start'> | KvStates;

/** x [B·T, C] → [B·T, C]. */
export function selfAttention(x: Value, p: AttentionParams, s: AttentionShape, at: Positions, cache?: Cache): Value {
  return linear(attentionHeads(x, p, s, at, cache), p.output);
}

/** Everything before the output projection: x [B·T, C] → the heads' results side by side [B·T, H·D]. */
export function attentionHeads(x: Value, p: AttentionParams, s: AttentionShape, at: Positions, cache?: Cache): Value {
  const { batch, tokens, heads, kvHeads, headDim } = s;
  const split = (y: Value, count: number) => reshape(y, [batch, tokens, count, headDim]);
  const turn = (y: Value, norm: Value | undefined) => {
    const normed = norm ? rmsNorm(y, norm, { epsilon: s.epsilon }) : y;
    const placed = rope(normed, at.positions, at.frequencies, { style: 'half', magnitude: s.ropeMagnitude });
    return s.queryKey ? rotateInput(placed, s.queryKey) : placed;
  };
  const q = turn(split(linear(x, p.q), heads), p.qNorm);
  const k = turn(split(linear(x, p.k), kvHeads), p.kNorm);
  const v = split(linear(x, p.v), kvHeads);
  return reshape(attend(q, k, v, s, cache), [batch * tokens, heads * headDim]);
}

/** q [B, T, H, D], k and v [B, T, G, D] → [B, T, H, D]. */
function attend(q: Value, k: Value, v: Value, { headDim, window, kv }: AttentionShape, cache?: Cache): Value {
  const options = { scale: 1 / Math.sqrt(headDim), window };
  if (kv && !cache) return kvWindow(q, k, v, kv, options);
  if (kv) return kvAppend(q, k, v, cache as KvStates, kv, options);
  if (!cache) return attention(q, k, v, { ...options, causal: true });
  const { start } = cache;
  const [keys, values] = [cacheWrite(cache.keys, k, start), cacheWrite(cache.values, v, start)];
  return attention(q, keys, values, { ...options, causal: true, start });
}
