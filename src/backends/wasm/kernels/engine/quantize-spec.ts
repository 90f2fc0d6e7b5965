// The op quantize for uniform specs: integers and minifloats of any width, granularity and rounding.
//
// A port of src/formats/block-codec.ts, int.ts and minifloat.ts, one value at a time, with the same bytes: quotients in
// f64 find the lower neighbour, |x| against fl(step × midpoint) decides. Threads take bands of rows that share scales
// (one row for channels and groups). Per band: scale of every tile, then the codes of every row, then packing.
// A second-level scale follows from the largest magnitude of all rows, which a command before this one gathered.
//
// Words: x, rows, columns, codes, bytes of a packed row, scales, zero points, tensor scale (address), maxima of the
// threads, scratch, its bytes for a thread, the format words of encoders/quantize.ts, a fixed scale or 0, its zero point,
// then the address of the step (0: none), that of the bits of values that are not clipped (0: none), and their bound.
// Scratch of a thread: column codes, then for each tile of a band step, minimum, zero point and maximum.

import { nonFiniteError } from '../../../data-error-codes';
import { address, at, real, word } from '../common/args';
import { shareEnd, shareStart } from '../common/share';
import { decodeScale, e8m0Code, encodeScale, scaleE8m0, storeScale } from '../quantize/scale';
import { reportError } from './error';
import { roundingAt } from './random';

const wBits: i32 = 11;
const wIsFloat: i32 = 12;
const wMantissaBits: i32 = 13;
const wBias: i32 = 14;
const wLast: i32 = 15; // largest magnitude code of a minifloat, largest code of an integer
const wLowest: i32 = 16;
const wTileRows: i32 = 17;
const wTileColumns: i32 = 18;
const wScaleFormat: i32 = 19;
const wRule: i32 = 20;
const wEmax: i32 = 21;
const wEvenBits: i32 = 22;
const wInverseMax: i32 = 23;
const wUnit: i32 = 24;
const wClip: i32 = 25;
const wZeroKind: i32 = 26; // 0 none, 1 integer, 2 float
const wRounding: i32 = 27;
const wSignedMax: i32 = 28;
const wNegativeZero: i32 = 29;
const wSeed: i32 = 30;
const wStream: i32 = 31;
const wTwoLevel: i32 = 32;
const wMax: i32 = 33; // f64, two words
const wScaleMax: i32 = 35; // f64, two words
const wFixedScale: i32 = 37; // 0: the scale follows from the values
const wFixedZero: i32 = 38;
const wStep: i32 = 39;
const wBits32: i32 = 40;
const wBound: i32 = 41;

const noLevels: i32 = 0;
const fourThirds: i32 = 2; // wTwoLevel: a constant
const ruleQuest: i32 = 8; // wRule, besides those of quantize/scale.ts
const ruleQuestNearest: i32 = 9;
/** fl(2.92247856 / 6) */
const gaussianRange: f32 = <f32>2.92247856 / 6;
/** Fraction bits of √2, rounded down. */
const rootTwo: u32 = 0x3504f3;

const nearestEven: i32 = 0;
const halfAway: i32 = 1;
const halfUp: i32 = 2;
const floorRounding: i32 = 4;
const stochastic: i32 = 5;

// @ts-ignore: decorator
@inline
function double(args: usize, i: i32): f64 {
  return load<f64>(args + (<usize>i << 2));
}

/** Largest magnitude of each thread's values, as float bits. Words: x, count, maxima. */
export function quantizeMaximum(args: usize, thread: i32, threads: i32): void {
  const x = address(args, 0);
  const count = word(args, 1);
  const mask = i32x4.splat(0x7fffffff);
  let most = i32x4.splat(0);
  const end = shareEnd(count, 16, thread, threads);
  let i = shareStart(count, 16, thread, threads);
  for (; i + 4 <= end; i += 4) most = i32x4.max_s(most, v128.and(v128.load(at(x, i)), mask));
  for (; i < end; i++) most = i32x4.max_s(most, v128.and(v128.load32_zero(at(x, i)), mask));
  const bits = max(
    max(i32x4.extract_lane(most, 0), i32x4.extract_lane(most, 1)),
    max(i32x4.extract_lane(most, 2), i32x4.extract_lane(most, 3)),
  );
  store<i32>(at(address(args, 2), thread), bits);
}

/** Whether a = |x| between low · step and high · step goes up. */
function roundsUp(
  rounding: i32,
  a: f64,
  step: f64,
  low: f64,
  high: f64,
  lowIsEven: bool,
  negative: bool,
  u: f64,
): bool {
  if (rounding == stochastic) return a > <f64>(<f32>(step * <f64>(<f32>(low + u * (high - low)))));
  if (rounding == floorRounding) return a >= <f64>(<f32>(step * high));
  const threshold = <f64>(<f32>(step * ((low + high) * 0.5)));
  if (a != threshold) return a > threshold;
  if (rounding == nearestEven) return !lowIsEven;
  if (rounding == halfAway) return true;
  return rounding == halfUp && !negative;
}

function encodeInt(rounding: i32, x: f64, step: f64, lowest: i32, last: i32, u: f64): i32 {
  if (step == 0) return 0;
  const a = Math.abs(x);
  const d = Math.abs(step);
  const negative = x < 0 != step < 0;
  const limit = negative ? -lowest : last;
  const quotient = Math.floor(a / d);
  if (quotient >= <f64>limit) return negative ? -limit : limit;
  let n = <i32>quotient;
  if (roundsUp(rounding, a, d, quotient, quotient + 1, (n & 1) == 0, negative, u)) n++;
  return negative ? -n : n;
}

// @ts-ignore: decorator
@inline
function powerOfTwo(e: i32): f64 {
  return reinterpret<f64>(<i64>(e + 1023) << 52);
}

function magnitudeValue(code: i32, mantissaBits: i32, bias: i32): f64 {
  const e = code >> mantissaBits;
  const m = code & ((1 << mantissaBits) - 1);
  if (e == 0) return <f64>m * powerOfTwo(1 - bias - mantissaBits);
  return <f64>((1 << mantissaBits) + m) * powerOfTwo(e - bias - mantissaBits);
}

function encodeFloat(args: usize, x: f32, step: f64, u: f64): i32 {
  const mantissaBits = word(args, wMantissaBits);
  const bias = word(args, wBias);
  const last = word(args, wLast);
  const negative = reinterpret<i32>(x) < 0;
  const a = Math.abs(<f64>x);
  let code = 0;
  if (step != 0) {
    const t = a / step;
    const exponent = max((<i32>(reinterpret<i64>(t) >> 52) & 0x7ff) - 1023, 1 - bias);
    const n = Math.floor(t * powerOfTwo(mantissaBits - exponent));
    const lower = <f64>(exponent + bias - 1) * <f64>(1 << mantissaBits) + n;
    if (lower >= <f64>last) code = last;
    else {
      code = <i32>lower;
      const low = magnitudeValue(code, mantissaBits, bias);
      const high = magnitudeValue(code + 1, mantissaBits, bias);
      if (roundsUp(word(args, wRounding), a, step, low, high, (code & 1) == 0, negative, u)) code++;
    }
  }
  const signed = negative && (code != 0 || word(args, wNegativeZero) != 0);
  return signed ? code | (1 << (word(args, wBits) - 1)) : code;
}

/** Code of the scale of E2M1 with the smallest squared error on a Gaussian of this deviation. */
export function questCode(format: i32, rule: i32, std: f64): u32 {
  const s = gaussianRange * <f32>std + <f32>1e-8;
  const bits = reinterpret<u32>(s);
  if (format != scaleE8m0) return bits;
  const up: u32 = rule == ruleQuestNearest && (bits & 0x7fffff) > rootTwo ? 1 : 0;
  return min<u32>((bits >> 23) + up, 254);
}

/** Population standard deviation of a tile. */
function deviation(x: usize, rowBytes: usize, height: i32, width: i32): f64 {
  const count = <f64>(height * width);
  let sum: f64 = 0;
  for (let r = 0; r < height; r++)
    for (let i = 0; i < width; i++) sum += <f64>load<f32>(at(x + <usize>r * rowBytes, i));
  const mean = sum / count;
  let square: f64 = 0;
  for (let r = 0; r < height; r++)
    for (let i = 0; i < width; i++) {
      const d = <f64>load<f32>(at(x + <usize>r * rowBytes, i)) - mean;
      square += d * d;
    }
  return Math.sqrt(square / count);
}

/** The scale of a symmetric tile, stored; returns fl(scale × tensor scale). */
function symmetricStep(args: usize, index: i32, covered: f32, std: f64, tensorScale: f32): f32 {
  const format = word(args, wScaleFormat);
  const clipped = covered * real(args, wClip);
  const rule = word(args, wRule);
  let code: u32;
  if (rule >= ruleQuest) code = questCode(format, rule, std);
  else if (format == scaleE8m0)
    code = e8m0Code(rule, abs(clipped), word(args, wEmax), word(args, wEvenBits), real(args, wInverseMax));
  else {
    const divisor = <f32>(double(args, wMax) * <f64>tensorScale);
    code = encodeScale(format, <f32>(<f64>clipped / <f64>divisor));
  }
  storeScale(format, address(args, 5), index, code);
  return decodeScale(format, code) * tensorScale;
}

/** Scale, minimum and zero point of a tile of [height, width] values at x. `tile`: step, minimum, zero, spare. */
export function fitTile(args: usize, x: usize, rowBytes: usize, height: i32, width: i32, index: i32, g: f32, tile: usize): bool {
  const zeroKind = word(args, wZeroKind);
  let low: f32 = zeroKind == 1 ? 0 : Infinity;
  let high: f32 = zeroKind == 1 ? 0 : -Infinity;
  let signed: f32 = 0;
  let bits: u32 = 0;
  for (let r = 0; r < height; r++) {
    const row = x + <usize>r * rowBytes;
    for (let i = 0; i < width; i++) {
      const v = load<f32>(at(row, i));
      bits = max(bits, reinterpret<u32>(v) & 0x7fffffff);
      if (abs(v) > abs(signed)) signed = v;
      low = min(low, v);
      high = max(high, v);
    }
  }
  if (bits >= 0x7f800000) return false;
  if (zeroKind == 0) {
    const covered = word(args, wSignedMax) != 0 ? signed : abs(signed);
    const std = word(args, wRule) >= ruleQuest ? deviation(x, rowBytes, height, width) : 0;
    store<f32>(tile, symmetricStep(args, index, covered, std, g));
    return true;
  }
  const format = word(args, wScaleFormat);
  const last = word(args, wLast);
  const clip = real(args, wClip);
  low = (low + 0) * clip;
  const range = high * clip - low;
  const code = range == 0 ? 0 : encodeScale(format, <f32>(<f64>range / <f64>last));
  const scale = decodeScale(format, code);
  storeScale(format, address(args, 5), index, code);
  store<f32>(tile, scale);
  let zero = 0;
  let minimum: f32 = 0;
  if (zeroKind == 1) {
    if (scale != 0) zero = <i32>min(max(nearest(-low / scale), 0), <f32>last);
    store<u8>(address(args, 6) + <usize>index, <u8>zero);
  } else {
    const minimumCode = encodeScale(format, low);
    storeScale(format, address(args, 6), index, minimumCode);
    minimum = decodeScale(format, minimumCode);
  }
  store<f32>(tile, minimum, 4);
  store<i32>(tile, zero, 8);
  return true;
}

/** A tile of a tensor whose scale and zero point are fixed: rows are then independent. */
function fixedTile(args: usize, x: usize, width: i32, row: i32, tile: usize): bool {
  for (let i = 0; i < width; i++) if ((load<u32>(at(x, i)) & 0x7fffffff) >= 0x7f800000) return false;
  const scale = real(args, wFixedScale);
  const zero = word(args, wFixedZero);
  store<f32>(tile, scale);
  store<f32>(tile, 0, 4);
  store<i32>(tile, zero, 8);
  if (row > 0) return true;
  storeScale(word(args, wScaleFormat), address(args, 5), 0, reinterpret<u32>(scale));
  if (word(args, wZeroKind) != 0) store<u8>(address(args, 6), <u8>zero);
  return true;
}

/** Codes of `width` values from column `first` of row `r`, one a byte; t is the step of random numbers. */
export function encodeTileRow(
  args: usize,
  x: usize,
  r: i32,
  first: i32,
  width: i32,
  tile: usize,
  out: usize,
  t: i32,
): void {
  const zeroKind = word(args, wZeroKind);
  const rounding = word(args, wRounding);
  const lowest = word(args, wLowest);
  const last = word(args, wLast);
  const step = <f64>load<f32>(tile) * (zeroKind == 0 ? <f64>real(args, wUnit) : 1);
  const minimum = load<f32>(tile, 4);
  const zero = load<i32>(tile, 8);
  const mask = (1 << word(args, wBits)) - 1;
  const isFloat = word(args, wIsFloat) != 0;
  const index = <u64>r * <u64>word(args, 2) + <u64>first;
  for (let i = 0; i < width; i++) {
    const v = load<f32>(at(x, i));
    const u = rounding == stochastic ? roundingAt(word(args, wSeed), word(args, wStream), t, index + <u64>i) : 0;
    let code: i32;
    if (isFloat) code = encodeFloat(args, v, step, u);
    else if (zeroKind == 0) code = encodeInt(rounding, <f64>v, step, lowest, last, u) & mask;
    else code = min(max(encodeInt(rounding, <f64>(v - minimum), step, -mask, mask, u) + zero, 0), last);
    store<u8>(out + <usize>i, <u8>code);
  }
}

/** Packs code bytes into a bit stream, lowest bits first. */
export function packRow(from: usize, count: i32, bits: i32, to: usize): void {
  let buffer: u32 = 0;
  let held = 0;
  for (let i = 0; i < count; i++) {
    buffer |= (<u32>load<u8>(from + <usize>i)) << held;
    held += bits;
    while (held >= 8) {
      store<u8>(to++, <u8>buffer);
      buffer >>= 8;
      held -= 8;
    }
  }
  if (held > 0) store<u8>(to, <u8>buffer);
}

/** The second-level scale: largest magnitude of all threads' values / (element maximum · scale maximum), or 1. */
export function tensorScaleOf(maxima: usize, threads: i32, max: f64, scaleMax: f64): f32 {
  let bits: i32 = 0;
  for (let t = 0; t < threads; t++) {
    const share = load<i32>(at(maxima, t));
    if (share > bits) bits = share;
  }
  const g = <f32>(<f64>reinterpret<f32>(bits) / (max * scaleMax));
  return g > 0 ? g : 1;
}

/** One bit for each value of a row: |x| < bound · step of its tile. */
function markRow(args: usize, row: usize, columns: i32, tileColumns: i32, steps: usize, to: usize): void {
  const bound = real(args, wBound);
  let limit: f32 = 0;
  let bits: u32 = 0;
  for (let i = 0; i < columns; i++) {
    if (i % tileColumns == 0) limit = load<f32>(steps + (<usize>(i / tileColumns) << 4)) * bound;
    if (abs(load<f32>(at(row, i))) < limit) bits |= <u32>1 << (i & 31);
    if ((i & 31) == 31) {
      store<u32>(at(to, i >> 5), bits);
      bits = 0;
    }
  }
}

export function quantizeSpec(args: usize, thread: i32, threads: i32): void {
  const x = address(args, 0);
  const rows = word(args, 1);
  const columns = word(args, 2);
  const packedBytes = <usize>word(args, 4);
  const scratch = address(args, 9) + <usize>thread * address(args, 10);
  const bits = word(args, wBits);
  const tileRows = word(args, wTileRows);
  const tileColumns = word(args, wTileColumns);
  const tiles = (columns + tileColumns - 1) / tileColumns;
  const steps = scratch + ((<usize>columns + 15) & ~15);
  const rowBytes = (<usize>columns) << 2;
  let g: f32 = 1;
  const levels = word(args, wTwoLevel);
  if (levels == fourThirds) g = <f32>(4.0 / 3.0);
  else if (levels != noLevels)
    g = tensorScaleOf(address(args, 8), threads, double(args, wMax), double(args, wScaleMax));
  if (thread == 0) store<f32>(address(args, 7), g);
  const t = address(args, wStep) == 0 ? 0 : load<i32>(address(args, wStep));
  const marks = address(args, wBits32);
  const fixed = word(args, wFixedScale) != 0;
  const bands = (rows + tileRows - 1) / tileRows;
  const end = shareEnd(bands, 1, thread, threads);
  for (let band = shareStart(bands, 1, thread, threads); band < end; band++) {
    const first = band * tileRows;
    const height = min(tileRows, rows - first);
    for (let i = 0; i < tiles; i++) {
      const column = i * tileColumns;
      const width = min(tileColumns, columns - column);
      const from = at(x + <usize>first * rowBytes, column);
      const tile = steps + (<usize>i << 4);
      const finite = fixed
        ? fixedTile(args, from, width, first, tile)
        : fitTile(args, from, rowBytes, height, width, band * tiles + i, g, tile);
      if (!finite) {
        reportError(nonFiniteError, first);
        return;
      }
    }
    for (let r = first; r < first + height; r++) {
      const row = x + <usize>r * rowBytes;
      for (let i = 0; i < tiles; i++) {
        const column = i * tileColumns;
        const width = min(tileColumns, columns - column);
        encodeTileRow(args, at(row, column), r, column, width, steps + (<usize>i << 4), scratch + <usize>column, t);
      }
      if (marks != 0) markRow(args, row, columns, tileColumns, steps, marks + <usize>r * (<usize>columns >> 3));
      packRow(scratch, columns, bits, address(args, 3) + <usize>r * packedBytes);
    }
  }
}
