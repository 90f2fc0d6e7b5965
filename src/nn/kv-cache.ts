// Quantized keys and values in attention: what a scheme is, and the graphs that keep to it.
//
// Keys are rounded per channel over groups of consecutive tokens, because channels have outliers, or per token over
// groups of channels; values per token. Keys become quantized in blocks of `residual` tokens (at least a group), values
// when they are older than the last `residual` tokens; the first `sinks` tokens never are.
//   whole windows   keys and values are rounded once, at the start; each query reads the copy that it would see
//   generation      states hold packed keys and values and a ring of the last tokens in f32. A token is packed once, as
//                   soon as its group is complete, and never again; until its block is complete the ring is read.
// Both give the same numbers, token by token. Source: KIVI (arXiv:2402.02750); there a prompt attends to exact keys and
// values, here each of its tokens sees what generation would show it.

import type { Format } from '../formats/format.ts';
import type { Value, ValueType } from '../graph/graph.ts';
import { attention } from '../graph/ops/attention.ts';
import { cacheWrite } from '../graph/ops/cache-write.ts';
import { type KvAttentionAttributes, kvAttention } from '../graph/ops/kv-attention.ts';
import { packChannels, ringWrite } from '../graph/ops/kv-write.ts';
import { concat, slice, transpose } from '../graph/ops/layout.ts';
import { quantize } from '../graph/ops/quantize.ts';
import { f32, packed } from '../graph/value-type.ts';

export interface KvScheme {
  readonly keys: {
    /** channel: a group is consecutive tokens of one channel. token: consecutive channels of one token and head. */
    readonly per: 'channel' | 'token';
    /** Rounding of a group; per channel a format with groups. */
    readonly format: Format;
  };
  /** Rounding of the values of one token and head, along the head dimension. */
  readonly values: Format;
  /** R: a block of keys, and the last values that stay exact. */
  readonly residual: number;
  /** Tokens at the front that stay exact. */
  readonly sinks: number;
}

/** Packed cache of one layer with its rings of exact tokens. */
export interface KvStates {
  /** [B, G, D, S] per channel, [B, S, G, D] per token. */
  readonly keys: Value;
  /** [B, S, G, D] */
  readonly values: Value;
  /** f32 [B, W, G, D] */
  readonly recentKeys: Value;
  readonly recentValues: Value;
  /** i32 [1], row of the first new token. */
  readonly start: Value;
}

export interface KvShape {
  readonly batch: number;
  readonly kvHeads: number;
  readonly headDim: number;
}

/** Tokens of a group of keys: 1 per token. */
export function keyGroup({ keys: { per, format } }: KvScheme): number {
  if (per === 'token') return 1;
  if (format.kind === 'quant' && format.granularity.kind === 'group') return format.granularity.size;
  throw new Error('kv cache: keys per channel without groups');
}

const attributesOf = (scheme: KvScheme, scale: number, window: number): KvAttentionAttributes => ({
  scale,
  window,
  keys: scheme.keys.per,
  block: Math.max(scheme.residual, keyGroup(scheme)),
  residual: scheme.residual,
  sinks: scheme.sinks,
});

/** Rows of the rings of exact tokens for a cache of `tokens` that is written at most `most` at a time. */
export function ringTokens(scheme: KvScheme, tokens: number, most: number): number {
  const { block, residual, sinks } = attributesOf(scheme, 1, 0);
  // What a group needs that the new tokens complete, and what their queries see exactly, all tokens at most.
  return Math.max(sinks + keyGroup(scheme) - 1 + most, Math.min(tokens, sinks + Math.max(block - 1, residual) + most));
}

/**
 * Types of a layer's states for S tokens that are written at most `most` at a time, as KvStates names them.
 */
export function kvStateTypes(
  scheme: KvScheme,
  { batch, kvHeads, headDim }: KvShape,
  tokens: number,
  most: number,
): Record<'keys' | 'values' | 'recentKeys' | 'recentValues', ValueType> {
  const group = keyGroup(scheme);
  const columns = Math.max(1, Math.ceil((tokens - scheme.sinks) / group)) * group;
  const rows = [batch, tokens, kvHeads, headDim];
  const ring = f32([batch, ringTokens(scheme, tokens, most), kvHeads, headDim]);
  const perChannel = scheme.keys.per === 'channel';
  return {
    keys: packed(perChannel ? [batch, kvHeads, headDim, columns] : rows, scheme.keys.format),
    values: packed(rows, scheme.values),
    recentKeys: ring,
    recentValues: ring,
  };
}

export interface KvOptions {
  scale: number;
  /** Keys that a query sees, itself included; 0 for all. */
  window: number;
}

/** Causal attention of whole windows from position 0: q [B, T, H, D], k and v [B, T, G, D] → [B, T, H, D]. */
export function kvWindow(q: Value, k: Value, v: Value, scheme: KvScheme, options: KvOptions): Value {
  const tokens = k.type.shape[1];
  if (tokens <= scheme.sinks) return attention(q, k, v, { ...options, causal: true });
  const keys = scheme.keys.per === 'channel' ? channelKeys(k, scheme) : quantize(k, scheme.keys.format);
  const kv = { keys, values: quantize(v, scheme.values), recentKeys: k, recentValues: v };
  return kvAttention(q, kv, attributesOf(scheme, options.scale, options.window));
}

/** Keys of all complete groups after the sinks, channels as rows; one group that no query reads where none is. */
function channelKeys(k: Value, scheme: KvScheme): Value {
  const T = k.type.shape[1];
  const group = keyGroup(scheme);
  const whole = Math.floor((T - scheme.sinks) / group) * group;
  const filled = whole > 0 ? k : concat(new Array<Value>(Math.ceil(group / T)).fill(k), 1);
  const complete = slice(filled, 1, whole > 0 ? scheme.sinks : 0, Math.max(whole, group));
  return quantize(transpose(complete, [0, 2, 3, 1]), scheme.keys.format);
}

/** Appends k and v [B, T, G, D] to the states at `start` and attends: q [B, T, H, D] → [B, T, H, D]. */
export function kvAppend(q: Value, k: Value, v: Value, states: KvStates, scheme: KvScheme, options: KvOptions): Value {
  const { start } = states;
  const { sinks } = scheme;
  const tokens = k.type.shape[1];
  const recentKeys = ringWrite(states.recentKeys, k, start, { sinks });
  const recentValues = ringWrite(states.recentValues, v, start, { sinks });
  const keys =
    scheme.keys.per === 'channel'
      ? packChannels(states.keys, recentKeys, start, { tokens, sinks })
      : cacheWrite(states.keys, quantize(k, scheme.keys.format), start);
  const values = cacheWrite(states.values, quantize(v, scheme.values), start);
  return kvAttention(
    q,
    { keys, values, recentKeys, recentValues, start },
    attributesOf(scheme, options.scale, options.window),
  );
}
