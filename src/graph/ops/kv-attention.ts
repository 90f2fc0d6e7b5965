// Causal attention over a cache whose older keys and values are quantized and whose last ones are exact.
//
//   y[t, h] = Σ_s softmax_s(scale · q[t, h] · k̃[s, g]) ṽ[s, g],  g = ⌊h / (H/G)⌋, s ≤ t (and s > t − window)
//
// Query t sees what a decoder sees that appends token after token: keys are quantized in whole blocks, so it sees
// quantized the keys of the blocks that were complete before it, sinks ≤ s < sinks + ⌊(t − sinks)/block⌋ · block, and
// the values older than the residual window, sinks ≤ s < t − residual; everything else exactly. That holds in a run
// of many queries too, so one op serves whole windows and generation, and the result does not depend on how a text is
// cut into runs. The T×S scores are never stored, and packed data is decoded block by block inside the kernel.
// Source: KIVI (arXiv:2402.02750, algorithm 1 and the authors' code), where a prompt alone attends to exact keys.

import { hasIndependentRows } from '../../formats/empty.ts';
import { applyOp } from '../apply.ts';
import { denseOrPackedShape, denseShape, expectShape, indexShape, shapeError } from '../check.ts';
import type { OpDefinition, Value } from '../graph.ts';
import { f32, printType } from '../value-type.ts';
import { channelSpec } from './kv-write.ts';

export interface KvAttentionAttributes {
  scale: number;
  /** Number of keys that a query sees, itself included; 0: all. */
  window: number;
  /** channel: keys [B, G, D, Sk], column c is token sinks + c. token: keys [B, S, G, D]. */
  keys: 'channel' | 'token';
  /** Keys are quantized in blocks of so many tokens. */
  block: number;
  /** The last values that stay exact besides a query's own. */
  residual: number;
  /** Tokens at the front that stay exact. */
  sinks: number;
}

/** Keys sinks ≤ s < this are quantized for the query at position t. */
export function quantizedKeysEnd(t: number, { block, sinks }: Pick<KvAttentionAttributes, 'block' | 'sinks'>): number {
  return sinks + Math.floor(Math.max(0, t - sinks) / block) * block;
}

/** Values sinks ≤ s < this are quantized for the query at position t. */
export function quantizedValuesEnd(t: number, { residual }: Pick<KvAttentionAttributes, 'residual'>): number {
  return t - residual;
}

/** Row of token s in a ring of W rows. */
export function ringRow(s: number, width: number, sinks: number): number {
  return s < sinks ? s : sinks + ((s - sinks) % (width - sinks));
}

/** Inputs q, keys, values, recent keys, recent values and, optionally, start. */
export const kvAttentionOp: OpDefinition<KvAttentionAttributes> = {
  name: 'kvAttention',
  noGradient: 'train without quantized keys and values, or against the rounded values with a straight-through rule',
  infer([q, keys, values, recentKeys, recentValues, start], a) {
    const op = 'kvAttention';
    const [B, T, H, D] = denseShape(op, 'q', q, 4);
    const [, S, G] = denseOrPackedShape(op, 'values', values, 4);
    expectShape(op, 'values', values.shape, [B, S, G, D], 'values must share batch and head dimension with q');
    if (values.dtype !== 'packed' || !hasIndependentRows(values.format))
      throw shapeError(
        op,
        'values must be packed row by row',
        printType(values),
        'packed',
        'use attention for dense ones',
      );
    if (H % G !== 0)
      throw shapeError(
        op,
        'query heads do not divide into key/value heads',
        `H ${H}, G ${G}`,
        'H a multiple of G',
        'check the head counts in the config',
      );
    const whole = [a.window, a.block, a.residual, a.sinks].every((n) => Number.isInteger(n) && n >= 0) && a.block > 0;
    if (!whole)
      throw shapeError(
        op,
        'bad attributes',
        JSON.stringify(a),
        'whole numbers, a block of at least 1',
        'check the scheme',
      );
    const least = quantizedKeysEnd(S - 1, a) - a.sinks;
    if (a.keys === 'channel') {
      channelSpec(op, keys);
      const Sk = keys.shape[3];
      expectShape(op, 'keys', keys.shape, [B, G, D, Sk], 'keys per channel are [B, G, D, S]');
      if (Sk < least)
        throw shapeError(op, 'the keys are too short', printType(keys), `${least} tokens`, 'allocate a longer cache');
    } else {
      expectShape(op, 'keys', keys.shape, values.shape, 'keys per token have the shape of the values');
      if (keys.dtype !== 'packed' || !hasIndependentRows(keys.format))
        throw shapeError(
          op,
          'keys must be packed row by row',
          printType(keys),
          'packed',
          'use attention for dense ones',
        );
    }
    const W = recentKeys.shape[1];
    expectShape(op, 'recent keys', denseShape(op, 'recent keys', recentKeys, 4), [B, W, G, D], 'a ring [B, W, G, D]');
    expectShape(op, 'recent values', denseShape(op, 'recent values', recentValues, 4), recentKeys.shape, 'as the keys');
    const ring = Math.min(S, a.sinks + Math.max(a.block - 1, a.residual) + T);
    if (W < ring)
      throw shapeError(
        op,
        'the ring of exact tokens is too short',
        `${W} rows`,
        `at least ${ring}`,
        'allocate a longer ring',
      );
    if (start) expectShape(op, 'start', indexShape(op, 'start', start), [1], 'pass one position');
    else if (T > S)
      throw shapeError(op, 'more queries than tokens', `T ${T}`, `at most ${S}`, 'pass start with a cache');
    return [f32(q.shape)];
  },
  flops([q, , values]) {
    const [B, T, H, D] = q.shape;
    const S = values.shape[1];
    return 4 * B * H * D * (T === S ? (T * (T + 1)) / 2 : T * S);
  },
};

export interface KvOperands {
  /** Packed: [B, G, D, Sk] per channel, [B, S, G, D] per token. */
  keys: Value;
  /** Packed [B, S, G, D]. */
  values: Value;
  /** f32 [B, W, G, D]: the last tokens, as ringWrite leaves them; all tokens where W ≥ S. */
  recentKeys: Value;
  recentValues: Value;
  /** i32 [1]: the position of the first query; 0 when absent. */
  start?: Value;
}

/** q [B, T, H, D] → [B, T, H, D]. */
export function kvAttention(q: Value, kv: KvOperands, attributes: KvAttentionAttributes): Value {
  const inputs = [q, kv.keys, kv.values, kv.recentKeys, kv.recentValues];
  return applyOp(kvAttentionOp, kv.start ? [...inputs, kv.start] : inputs, attributes)[0];
}
