// Scales that are fixed before the values are known: static ranges of activations.
//
// Problem: one scale for a whole tensor that follows from its values needs a pass over them whenever the model runs, and
// makes rows depend on each other. Method: the scale (and zero point) comes from a range [min, max] that calibration
// found; codes are chosen as with any scale, and values beyond the range take the outermost code.
//   symmetric      scale = fl(max(−min, max) / max code)
//   integer zero   the range is widened to hold 0; scale = fl(fl(max − min) / (2^b − 1)), z = RNE(fl(−min / scale))
// The scale, not the range, is what is kept: other runtimes store it (compressed-tensors' input_scale), and a range does
// not always follow from it. It does not do: groups, tokens, power-of-two and two-level scales, float minimums.

import { roundNearestEven } from './bits.ts';
import { elementCodec } from './element.ts';
import type { Format, QuantSpec } from './format.ts';
import { isInt, isMinifloat } from './table.ts';

export interface FixedScale {
  /** Positive float32 between the bounds below. */
  readonly scale: number;
  /** Code of zero, for formats with integer zero points only. */
  readonly zeroPoint?: number;
}

/** Outside of these a product with other scales overflows or vanishes. */
export const smallestFixedScale = 2 ** -100;
export const largestFixedScale = 2 ** 100;

/** Whether the format can take a fixed scale: integers and minifloats, one plain f32 scale for the tensor. */
export function takesFixedScale(format: Format): format is QuantSpec {
  if (format.kind !== 'quant' || format.granularity.kind !== 'tensor' || format.choice !== 'none') return false;
  const { element, scale, zeroPoint, clip } = format;
  const plain = scale.format === 'f32' && scale.rule === 'absmax' && !scale.tensorScale && clip === 1;
  return plain && zeroPoint !== 'float' && (isInt(element) || isMinifloat(element));
}

/** What such formats are called, for messages. */
export const fixedScaleFormats = 'one scale for the tensor, as in int8-tensor, int8-tensor-asym or fp8-e4m3-tensor';

/** What is wrong with a fixed scale for a format that takes one; undefined: nothing. */
export function fixedScaleProblem(format: QuantSpec, { scale, zeroPoint }: FixedScale): string | undefined {
  if (typeof scale !== 'number' || !(scale >= smallestFixedScale && scale <= largestFixedScale))
    return 'a scale from 2^-100 to 2^100';
  if (format.zeroPoint === 'none')
    return zeroPoint === undefined ? undefined : 'no zero point: the format is symmetric';
  const { max } = elementCodec(format);
  const fits = typeof zeroPoint === 'number' && Number.isInteger(zeroPoint) && zeroPoint >= 0 && zeroPoint <= max;
  return fits ? undefined : `a zero point, a whole number from 0 to ${max}`;
}

/**
 * The scale that covers a range.
 *
 * @param format one that takes a fixed scale
 * @param min @param max finite; both 0 count as −1 and 1, for nothing is known then
 * @example fixedScaleOf(parseFormat('int8-tensor') as QuantSpec, -2, 6.35) // { scale: 0.05 } in float32
 */
export function fixedScaleOf(format: QuantSpec, min: number, max: number): FixedScale {
  const unknown = min === 0 && max === 0;
  const low = unknown ? -1 : Math.fround(Math.min(min, 0));
  const high = unknown ? 1 : Math.fround(Math.max(max, 0));
  const codec = elementCodec(format);
  const bounded = (scale: number) => Math.min(Math.max(scale, smallestFixedScale), largestFixedScale);
  if (format.zeroPoint === 'none') return { scale: bounded(Math.fround(Math.max(-low, high) / Math.abs(codec.max))) };
  const scale = bounded(Math.fround(Math.fround(high - low) / codec.max));
  const zero = roundNearestEven(Math.fround(-low / scale));
  return { scale, zeroPoint: Math.min(Math.max(zero, 0), codec.max) };
}
