// Rounding to a uniform spec in WGSL: statistics of a tile → scale → codes, with the bytes of src/formats/block-codec.ts.
//
// encode-scales.ts has statistics and scales, encode-elements.ts the codes; this file is what kernels import. A kernel
// gathers the values of a tile, in any order and by any number of threads, fits the tile, and rounds every value:
//
//   var own = noStatistics();
//   own = gather(own, x, at);            x: bits of a value (u32); at: its number in the tile, row-major
//   own = join(own, other);              own and other: statistics of parts of a tile
//   let tile = fitTile(own, g);          g: the second-level scale, 1.0 where there is none
//   codeOf(x, tile, element)             code of one value; element: its index in the matrix, which counts random numbers
//   codesOf(four, tile, element)         codes of four neighbours; element is a multiple of 4: half the random numbers' work
//   tile.code, tile.zeroCode             scale and minimum or zero point as they are stored
//   tile.step                            what one unit of the codes is worth, with the second level
//
// Scales by the standard deviation look at single values again when sums in f32 do not decide (encode-deviation.ts). Where
// `readsTile(spec)`, the kernel declares two functions, and fitTile is called where they can answer:
//
//   fn tileSize() -> u32                 values in the tile, fewer at the matrix's edges
//   fn tileValue(at: u32) -> u32         bits of value `at` of the tile, row-major
//
// own.amax holds the bits of the largest magnitude: from 0x7f800000 on, a value is not finite and nothing may be fitted.
// Steps must be normal f32 numbers below 2^126: devices may flush subnormals.

import { elementCodec } from '../../../formats/element.ts';
import type { QuantSpec, ScaleFormat, ScaleRule } from '../../../formats/format.ts';
import { scaleMax } from '../../../formats/scale-format.ts';
import { isInt, isMinifloat } from '../../../formats/table.ts';
import { readsTile } from './encode-deviation.ts';
import { elementsSource } from './encode-elements.ts';
import { scalesSource, statisticsFields } from './encode-scales.ts';

import { randomSource } from './random.ts';

export { readsTile, statisticsFields };

const directE8m0: ReadonlySet<ScaleRule> = new Set([
  ...(['floor', 'ceil', 'even', 'even1', 'rceil', 'te', 'deepseek', 'nearest'] as const),
  ...(['four-thirds', 'quest', 'quest-nearest'] as const),
]);
const storedScales: ReadonlySet<ScaleFormat> = new Set(['f32', 'f16', 'bf16', 'e8m0', 'e4m3', 'ue5m3']);

/** Whether kernels round to this spec: integers and minifloats under direct scale rules. */
export function hasEncoder(spec: QuantSpec): boolean {
  const { element, scale } = spec;
  if (spec.choice !== 'none' || !(isInt(element) || isMinifloat(element)) || !storedScales.has(scale.format))
    return false;
  if (scale.format === 'e8m0') return directE8m0.has(scale.rule);
  if (readsTile(spec)) return scale.format === 'f32';
  // Narrow scales with a sign and a largest magnitude of the tensor beyond f32 do not occur in practice.
  const narrow = scale.format === 'e4m3' || scale.format === 'ue5m3';
  return scale.rule === 'absmax' && !(narrow && spec.range === 'signed-max') && (!scale.tensorScale || narrow);
}

/** The second-level scale when it is known ahead of time. */
export const fixedTensorScale = (spec: QuantSpec): number | undefined =>
  !spec.scale.tensorScale ? 1 : spec.scale.rule === 'four-thirds' ? Math.fround(4 / 3) : undefined;

/** Largest magnitude of a tensor over its second-level scale. */
export const tensorScaleDivisor = (spec: QuantSpec): number => elementCodec(spec).max * scaleMax(spec.scale.format);

/**
 * Declares what the head of this file lists, for a spec. Needs valueSource and unfusedSource; stochastic rounding needs
 * words.seed and words.stream.
 *
 * @param step name of an array<i32> whose first number is the step of the random numbers; absent: step 0
 * @param draws whether to declare uniformOf and uniformsOf (random.ts); stochastic rounding needs them
 */
export const encodeSource = (spec: QuantSpec, step?: string, draws = spec.rounding === 'stochastic'): string =>
  scalesSource(spec) + (draws ? randomSource(step) : '') + elementsSource(spec);
