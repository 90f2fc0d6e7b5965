// Writing new keys and values into the parts of a quantized cache.
//
// ringWrite keeps the last tokens in f32: token s < sinks stands in row s for good, any other one in row
// sinks + (s − sinks) mod (W − sinks), where it replaces an older one. packChannels rounds keys per channel: as soon as
// the last of a group's tokens is in the ring, each channel's values of that group become codes with one scale, and are
// not touched again. Rows of a packed cache per token are written by cacheWrite.
// Source: KIVI (arXiv:2402.02750, section 3.3): keys per channel in groups of tokens.

import type { QuantSpec } from '../../formats/format.ts';
import { elementBits } from '../../formats/table.ts';
import { applyOp } from '../apply.ts';
import { denseShape, expectShape, indexShape, shapeError } from '../check.ts';
import type { OpDefinition, Value, ValueType } from '../graph.ts';
import { printType } from '../value-type.ts';

export interface RingAttributes {
  /** Rows at the front that are not reused. */
  sinks: number;
}

const noGradient = 'differentiate a graph that sees whole windows, without a cache';

function checkSinks(op: string, sinks: number, width: number): void {
  if (Number.isInteger(sinks) && sinks >= 0 && sinks < width) return;
  throw shapeError(op, 'bad number of sinks', `${sinks}`, `0 … ${width - 1}`, 'allocate a longer ring');
}

export const ringWriteOp: OpDefinition<RingAttributes> = {
  name: 'ringWrite',
  inPlace: { 0: 0 },
  updates: true,
  noGradient,
  infer([ring, x, start], { sinks }) {
    const [B, W, G, D] = denseShape('ringWrite', 'ring', ring, 4);
    const rows = denseShape('ringWrite', 'x', x, 4);
    expectShape(
      'ringWrite',
      'x',
      rows,
      [B, rows[1], G, D],
      'x must share batch, heads and head dimension with the ring',
    );
    checkSinks('ringWrite', sinks, W);
    if (rows[1] > W - sinks)
      throw shapeError(
        'ringWrite',
        'x has more tokens than the ring',
        `${rows[1]} tokens`,
        `at most ${W - sinks}`,
        'allocate a longer ring',
      );
    expectShape('ringWrite', 'start', indexShape('ringWrite', 'start', start), [1], 'pass one position');
    return [ring];
  },
};

/** ring [B, W, G, D] (a state), x [B, T, G, D], start i32 [1] → ring with tokens start … start+T−1 written. */
export function ringWrite(ring: Value, x: Value, start: Value, attributes: RingAttributes): Value {
  return applyOp(ringWriteOp, [ring, x, start], attributes)[0];
}

export interface PackChannelsAttributes {
  /** T, tokens that were just written to the ring. */
  tokens: number;
  /** Tokens at the front that are not rounded; groups begin after them. */
  sinks: number;
}

/** Format of keys per channel [B, G, D, S]: groups along tokens that fill whole bytes. */
export function channelSpec(op: string, type: ValueType): QuantSpec & { granularity: { kind: 'group' } } {
  if (type.dtype === 'packed' && type.format.kind === 'quant') {
    const { granularity, element, scale } = type.format;
    if (granularity.kind === 'group' && !scale.tensorScale && (granularity.size * elementBits(element)) % 8 === 0)
      return type.format as QuantSpec & { granularity: { kind: 'group' } };
  }
  throw shapeError(
    op,
    'keys per channel need scales of groups that fill whole bytes',
    printType(type),
    'a format such as int2-g32-asymf',
    'choose a group of 8, 16 or 32 tokens',
  );
}

export const packChannelsOp: OpDefinition<PackChannelsAttributes> = {
  name: 'packChannels',
  inPlace: { 0: 0 },
  updates: true,
  noGradient,
  infer([cache, ring, start], { tokens, sinks }) {
    const { size } = channelSpec('packChannels', cache).granularity;
    const [B, W, G, D] = denseShape('packChannels', 'ring', ring, 4);
    const S = cache.shape[3];
    expectShape('packChannels', 'the cache', cache.shape, [B, G, D, S], 'the cache is [B, G, D, S] of the ring');
    checkSinks('packChannels', sinks, W);
    if (W - sinks < tokens + size - 1)
      throw shapeError(
        'packChannels',
        'the ring does not hold the groups that the new tokens complete',
        `${W - sinks} tokens after the sinks`,
        `at least ${tokens + size - 1}`,
        'allocate a longer ring',
      );
    expectShape('packChannels', 'start', indexShape('packChannels', 'start', start), [1], 'pass one position');
    return [cache];
  },
};

/**
 * cache packed [B, G, D, S] (a state), ring [B, W, G, D] after ringWrite of tokens start … start+T−1, start i32 [1] →
 * cache with the groups that these tokens completed. Column c is token sinks + c.
 */
export function packChannels(cache: Value, ring: Value, start: Value, attributes: PackChannelsAttributes): Value {
  return applyOp(packChannelsOp, [cache, ring, start], attributes)[0];
}
