// Scales of a row (or of a band of rows that share them): from the maxima or ranges of its tiles, by search or by choice.
//
// Symmetric: `steps` holds the largest magnitude of each tile and gets its step. Asymmetric: steps, minimums and zeros are
// filled from the values. Codes of scales and zero points go to where the argument words say, from number `index` on.

import { address, real, word } from '../common/args';
import { fourOverSix } from './choose';
import { dtypeBf16, storeRange, valueBytes } from './convert';
import { decodeScale, e8m0Code, encodeScale, ruleCompressedTensors, scaleE4m3, scaleE8m0, smallScales, storeScale } from './scale';
import { loadTile, searchRange, searchScale, Tile } from './search';
import {
  wBias,
  wChoice,
  wClip,
  wCols,
  wDivisor,
  wEmax,
  wEvenBits,
  wInverseMax,
  wIsFloat,
  wLast,
  wLowest,
  wMantissaBits,
  wMultiplier,
  wRule,
  wScaleFormat,
  wScales,
  wTensorAmax,
  wTensorScale,
  wTileCols,
  wUnit,
  wZeroKind,
  wZeroPoints,
} from './words';

/** Scales number `index` … from the `count` maxima at `steps`, which become steps. */
export function symmetricScales(args: usize, index: i32, count: i32, steps: usize): void {
  const format = word(args, wScaleFormat);
  const scales = address(args, wScales);
  const rule = word(args, wRule);
  const emax = word(args, wEmax);
  const evenBits = word(args, wEvenBits);
  const inverseMax = real(args, wInverseMax);
  const divisor = real(args, wDivisor);
  const tensorScale = real(args, wTensorScale);
  const unit = real(args, wUnit);
  const clip = real(args, wClip);
  if (format >= scaleE4m3) {
    smallScales(format, rule, steps, count, clip, divisor, scales + <usize>index);
    const factor = f32x4.splat(tensorScale);
    for (let t = 0; t < count; t += 4, steps += 16) {
      const scale = v128.load(steps);
      v128.store(steps, rule == ruleCompressedTensors ? f32x4.div(scale, factor) : f32x4.mul(scale, factor));
    }
    return;
  }
  for (let t = 0; t < count; t++, steps += 4) {
    const amax = load<f32>(steps) * clip;
    const code =
      format == scaleE8m0 ? e8m0Code(rule, amax, emax, evenBits, inverseMax) : encodeScale(format, amax / divisor);
    storeScale(format, scales, index + t, code);
    store<f32>(steps, decodeScale(format, code) * tensorScale * unit);
  }
}

/** Tile t of a row at `x`, with the parameters of its search. */
function searchedTile(dtype: i32, args: usize, x: usize, t: i32, scratch: usize): Tile {
  const first = t * word(args, wTileCols);
  const count = min(word(args, wTileCols), word(args, wCols) - first);
  const tile = loadTile(dtype, x + <usize>first * valueBytes(dtype), count, scratch);
  tile.isFloat = word(args, wIsFloat) != 0;
  tile.mantissaBits = word(args, wMantissaBits);
  tile.bias = word(args, wBias);
  tile.last = word(args, wLast);
  tile.lowest = word(args, wLowest);
  tile.unit = real(args, wUnit);
  tile.tensorScale = real(args, wTensorScale);
  return tile;
}

/** symmetricScales for one row under the rule `mse`. */
export function searchedScales(dtype: i32, args: usize, x: usize, index: i32, count: i32, steps: usize, scratch: usize): void {
  const format = word(args, wScaleFormat);
  const emax = word(args, wEmax);
  const divisor = real(args, wDivisor);
  const clip = real(args, wClip);
  const factor = real(args, wTensorScale);
  for (let t = 0; t < count; t++, steps += 4) {
    const tile = searchedTile(dtype, args, x, t, scratch);
    const code = searchScale(tile, scratch, format, load<f32>(steps) * clip, emax, divisor);
    storeScale(format, address(args, wScales), index + t, code);
    store<f32>(steps, decodeScale(format, code) * factor * tile.unit);
  }
}

/** symmetricScales for one row under four-over-six. */
export function chosenScales(dtype: i32, args: usize, x: usize, index: i32, count: i32, steps: usize, scratch: usize): void {
  const measure = word(args, wChoice);
  const amax = real(args, wTensorAmax);
  const multiplier = real(args, wMultiplier);
  for (let t = 0; t < count; t++, steps += 4) {
    const tile = searchedTile(dtype, args, x, t, scratch);
    const g = tile.tensorScale;
    const code = fourOverSix(tile.values, tile.count, load<f32>(steps), multiplier, g, amax, measure);
    storeScale(scaleE4m3, address(args, wScales), index + t, code);
    store<f32>(steps, decodeScale(scaleE4m3, code) * g);
  }
}

/** Zero codes for the tiles of a packed row whose step is zero. */
export function clearZeroTiles(args: usize, steps: usize, count: i32, out: usize): void {
  const bytes = <usize>word(args, wTileCols) >> 1;
  for (let t = 0; t < count; t++, steps += 4, out += bytes) if (load<f32>(steps) == 0) memory.fill(out, 0, bytes);
}

/** Whether a float32 is neither infinite nor NaN. */
// @ts-ignore: decorator
@inline
function finite(x: f32): bool {
  return (reinterpret<i32>(x) & 0x7f800000) != 0x7f800000;
}

/**
 * Scales and zero points of a row: steps, minimums and zeros of its tiles. False when a bfloat16 is not finite; other
 * types were looked through before.
 */
// @ts-ignore: decorator
@inline
export function asymmetricScales(
  dtype: i32,
  args: usize,
  x: usize,
  index: i32,
  count: i32,
  steps: usize,
  minimums: usize,
  zeros: usize,
  spare: usize,
  search: usize,
): bool {
  const cols = word(args, wCols);
  const tileCols = word(args, wTileCols);
  const integer = word(args, wZeroKind) == 1;
  const format = word(args, wScaleFormat);
  const last = <f32>word(args, wLast);
  const clip = real(args, wClip);
  const row = x;
  for (let t = 0; t < count; t++) {
    const n = min(tileCols, cols - t * tileCols);
    storeRange(dtype, x, n, integer ? <f32>0 : <f32>Infinity, integer ? <f32>0 : -<f32>Infinity, spare);
    x += <usize>n * valueBytes(dtype);
    if (dtype == dtypeBf16 && !(finite(load<f32>(spare)) && finite(load<f32>(spare, 4)))) return false;
    // adding 0 turns -0 into 0
    const start = load<f32>(spare) + <f32>0;
    const end = load<f32>(spare, 4);
    let code: u32;
    let zeroCode: u32 = 0;
    if (search != 0) {
      const tile = searchedTile(dtype, args, row, t, search);
      searchRange(tile, search, format, start, end, clip, integer, spare);
      code = load<u32>(spare);
      zeroCode = load<u32>(spare, 4);
    } else {
      const low = start * clip;
      const width = end * clip - low;
      code = width == 0 ? 0 : encodeScale(format, width / last);
      if (!integer) zeroCode = encodeScale(format, low);
      else if (code != 0) zeroCode = <u32>min(max(nearest(-low / decodeScale(format, code)), 0), last);
    }
    const scale = decodeScale(format, code);
    storeScale(format, address(args, wScales), index + t, code);
    if (integer) store<u8>(address(args, wZeroPoints) + <usize>(index + t), <u8>zeroCode);
    else storeScale(format, address(args, wZeroPoints), index + t, zeroCode);
    const zero: i32 = integer ? zeroCode : 0;
    const minimum: f32 = integer ? 0 : decodeScale(format, zeroCode);
    const at = <usize>t << 2;
    store<f32>(steps + at, scale);
    store<f32>(minimums + at, minimum);
    store<i32>(zeros + at, zero);
  }
  return true;
}
