// The scale rule `mse`: of up to 80 candidates the scale with the smallest squared error, with the reference's decision.
//
// The reference adds up (x − y)² in float64, element by element, for every candidate, and keeps the earliest smallest sum.
// Here every candidate is screened first: Σ (x/step − n)², n the nearest element, in float32 lanes, 64 values at a time,
// the sums in float64; a candidate is left as soon as it cannot win. Screening decides ties between neighbouring elements
// carelessly (both errors are equal there) and rounds differently; the root of its sum is within 2^-16 of itself plus
// 2^-19 of the norm of the tile. Candidates closer to the smallest than that are then summed up exactly as the reference
// does. Steps without a float32 inverse are not screened.

import { lanes, valueBytes } from './convert';
import { elementValues, redoFloat, redoInt } from './redo';
import { decodeScale, e8m0Code, encodeScale, ruleFloor, scaleE8m0 } from './scale';

/** A tile in f32 and what its candidates have in common; set by the caller, one tile after the other. */
// @ts-ignore: decorator
@unmanaged
export class Tile {
  values: usize;
  count: i32;
  /** Norm of the values. */
  norm: f64;
  isFloat: bool;
  mantissaBits: i32;
  bias: i32;
  /** Largest code (integers) or magnitude code (minifloats), smallest code of integers. */
  last: i32;
  lowest: i32;
  /** Fixed-point unit of integers under e8m0 scales. */
  unit: f32;
  /** Second-level scale. */
  tensorScale: f32;
}

/** One candidate. */
// @ts-ignore: decorator
@unmanaged
class Candidate {
  error: f64;
  scaleCode: u32;
  zeroCode: u32;
  scale: f32;
  /** Zero point in codes, and minimum. */
  zero: f32;
  minimum: f32;
  pad: u32;
}

const mostCandidates: i32 = 80;
const candidateBytes: usize = 32;
const tileBytes: usize = 64;
const header: usize = tileBytes + <usize>mostCandidates * candidateBytes;
/** Where the values of the tile are, 4 bytes each; quantizer-plan.ts knows the size of what stands before them. */
// @ts-ignore: decorator
@inline
export function valuesAt(scratch: usize): usize {
  return scratch + header;
}

// @ts-ignore: decorator
@inline
function candidateAt(scratch: usize, i: i32): Candidate {
  return changetype<Candidate>(scratch + tileBytes + <usize>i * candidateBytes);
}

/** p · amax for candidate i: the reference's fractions of the maximum. */
// @ts-ignore: decorator
@inline
function fraction(i: i32): f32 {
  return <f32>(1 - <f64>i / 100);
}

/** Copies a tile to f32 and takes its norm. */
export function loadTile(dtype: i32, x: usize, count: i32, scratch: usize): Tile {
  const tile = changetype<Tile>(scratch);
  const values = valuesAt(scratch);
  let sum: f64 = 0;
  for (let i = 0; i < count; i += 4, x += 4 * valueBytes(dtype)) {
    const v = dtype == 0 ? lanes(0, x, 0) : dtype == 1 ? lanes(1, x, 0) : lanes(2, x, 0);
    v128.store(values + (<usize>i << 2), v);
    const low = f64x2.promote_low_f32x4(v);
    const high = f64x2.promote_low_f32x4(v128.shuffle<i32>(v, v, 2, 3, 0, 1));
    const squares = f64x2.add(f64x2.mul(low, low), f64x2.mul(high, high));
    sum += f64x2.extract_lane(squares, 0) + f64x2.extract_lane(squares, 1);
  }
  tile.values = values;
  tile.count = count;
  tile.norm = Math.sqrt(sum);
  return tile;
}

// @ts-ignore: decorator
@inline
function add4(a: v128, b: v128, c: v128, d: v128): f64 {
  const s = f32x4.add(f32x4.add(a, b), f32x4.add(c, d));
  return (
    <f64>(f32x4.extract_lane(s, 0) + f32x4.extract_lane(s, 1)) +
    <f64>(f32x4.extract_lane(s, 2) + f32x4.extract_lane(s, 3))
  );
}

// @ts-ignore: decorator
@inline
function intError(x: v128, minimum: v128, inverse: v128, low: v128, high: v128): v128 {
  const f = f32x4.mul(f32x4.sub(x, minimum), inverse);
  const e = f32x4.sub(f, f32x4.pmin(f32x4.pmax(f32x4.nearest(f), low), high));
  return f32x4.mul(e, e);
}

// @ts-ignore: decorator
@inline
function floatError(x: v128, inverse: v128, top: v128, lowest: v128, unit: v128): v128 {
  const round = f32x4.splat(8388608);
  const a = f32x4.mul(f32x4.abs(x), inverse);
  const q = f32x4.pmin(a, top);
  const e = i32x4.max_s(v128.and(q, i32x4.splat(0x7f800000)), lowest);
  const n = f32x4.sub(f32x4.add(f32x4.mul(q, i32x4.sub(unit, e)), round), round);
  // the reciprocal of 2^(127 + m − e) has the exponent field e − m
  const back = i32x4.sub(i32x4.splat(254 << 23), i32x4.sub(unit, e));
  const d = f32x4.sub(a, f32x4.mul(n, back));
  return f32x4.mul(d, d);
}

/** Squared error of a candidate by screening; Infinity once it is above `limit`. */
function screen(tile: Tile, c: Candidate, step: f32, limit: f64): f64 {
  const inverse = f32x4.splat(1 / step);
  const square = <f64>step * <f64>step;
  const stop = limit / square;
  let sum: f64 = 0;
  let x = tile.values;
  if (tile.isFloat) {
    const top = f32x4.splat(elementTop(tile));
    const lowest = i32x4.splat((128 - tile.bias) << 23);
    const unit = i32x4.splat((254 + tile.mantissaBits) << 23);
    for (let i = 0; i < tile.count; i += 64) {
      let s0 = f32x4.splat(0);
      let s1 = s0;
      let s2 = s0;
      let s3 = s0;
      for (const end = x + (<usize>min(64, tile.count - i) << 2); x < end; x += 64) {
        s0 = f32x4.add(s0, floatError(v128.load(x), inverse, top, lowest, unit));
        s1 = f32x4.add(s1, floatError(v128.load(x, 16), inverse, top, lowest, unit));
        s2 = f32x4.add(s2, floatError(v128.load(x, 32), inverse, top, lowest, unit));
        s3 = f32x4.add(s3, floatError(v128.load(x, 48), inverse, top, lowest, unit));
      }
      sum += add4(s0, s1, s2, s3);
      if (sum > stop) return Infinity;
    }
  } else {
    const minimum = f32x4.splat(c.minimum);
    const low = f32x4.splat(<f32>tile.lowest - c.zero);
    const high = f32x4.splat(<f32>tile.last - c.zero);
    for (let i = 0; i < tile.count; i += 64) {
      let s0 = f32x4.splat(0);
      let s1 = s0;
      let s2 = s0;
      let s3 = s0;
      for (const end = x + (<usize>min(64, tile.count - i) << 2); x < end; x += 64) {
        s0 = f32x4.add(s0, intError(v128.load(x), minimum, inverse, low, high));
        s1 = f32x4.add(s1, intError(v128.load(x, 16), minimum, inverse, low, high));
        s2 = f32x4.add(s2, intError(v128.load(x, 32), minimum, inverse, low, high));
        s3 = f32x4.add(s3, intError(v128.load(x, 48), minimum, inverse, low, high));
      }
      sum += add4(s0, s1, s2, s3);
      if (sum > stop) return Infinity;
    }
  }
  return sum * square;
}

/** Largest value of a minifloat. */
function elementTop(tile: Tile): f32 {
  return f32x4.extract_lane(elementValues(i32x4.splat(tile.last), tile.mantissaBits, tile.bias), 0);
}

/** sum + (x − y)² of four lanes in turn, in float64. */
// @ts-ignore: decorator
@inline
function addSquares(sum: f64, x: v128, y: v128): f64 {
  const d0 = f64x2.sub(f64x2.promote_low_f32x4(x), f64x2.promote_low_f32x4(y));
  const xh = v128.shuffle<i32>(x, x, 2, 3, 0, 1);
  const yh = v128.shuffle<i32>(y, y, 2, 3, 0, 1);
  const d1 = f64x2.sub(f64x2.promote_low_f32x4(xh), f64x2.promote_low_f32x4(yh));
  const s0 = f64x2.mul(d0, d0);
  const s1 = f64x2.mul(d1, d1);
  sum += f64x2.extract_lane(s0, 0);
  sum += f64x2.extract_lane(s0, 1);
  sum += f64x2.extract_lane(s1, 0);
  return sum + f64x2.extract_lane(s1, 1);
}

/** Squared error of a candidate as the reference adds it up; Infinity once it is not below `limit`. */
function sumExactly(tile: Tile, c: Candidate, step: f32, limit: f64): f64 {
  const factor = f32x4.splat(step);
  const scale = f32x4.splat(c.scale);
  const tensorScale = f32x4.splat(tile.tensorScale);
  const minimum = f32x4.splat(c.minimum);
  const unit = f32x4.splat(tile.unit);
  const zero = i32x4.splat(<i32>c.zero);
  const low = i32x4.splat(tile.lowest);
  const high = i32x4.splat(tile.last);
  const sign = i32x4.splat(0x80000000);
  let sum: f64 = 0;
  const end = tile.values + (<usize>tile.count << 2);
  for (let p = tile.values; p < end; p += 16) {
    const x = v128.load(p);
    let element: v128;
    if (step == 0) {
      element = f32x4.splat(0);
    } else if (tile.isFloat) {
      const code = redoFloat(x, factor, tile.mantissaBits, tile.bias, tile.last);
      element = v128.or(elementValues(code, tile.mantissaBits, tile.bias), v128.and(x, sign));
    } else {
      const q = i32x4.min_s(i32x4.max_s(i32x4.add(redoInt(x, minimum, factor), zero), low), high);
      element = f32x4.mul(f32x4.convert_i32x4_s(i32x4.sub(q, zero)), unit);
    }
    const y = f32x4.add(f32x4.mul(f32x4.mul(element, scale), tensorScale), minimum);
    sum = addSquares(sum, x, y);
    if (sum >= limit) return Infinity;
  }
  return sum;
}

/** What a candidate's step is: the value of code 1. */
// @ts-ignore: decorator
@inline
function stepOf(tile: Tile, c: Candidate): f32 {
  return c.scale * tile.tensorScale * tile.unit;
}

/** Index of the best of `count` candidates. */
function choose(tile: Tile, scratch: usize, count: i32): i32 {
  if (count == 1) return 0;
  const relative: f64 = 1 + 1.52587890625e-5;
  const absolute = tile.norm * 1.9073486328125e-6;
  let smallest: f64 = Infinity;
  let limit: f64 = Infinity;
  for (let i = 0; i < count; i++) {
    const c = candidateAt(scratch, i);
    const step = stepOf(tile, c);
    if (step < <f32>1.1754943508222875e-38) {
      c.error = -1;
      continue;
    }
    c.error = screen(tile, c, step, limit);
    if (c.error < smallest) {
      smallest = c.error;
      const root = Math.sqrt(smallest) * relative + absolute;
      limit = root * root;
    }
  }
  let winner = -1;
  let contenders = 0;
  for (let i = 0; i < count; i++) {
    if (candidateAt(scratch, i).error > limit) continue;
    contenders++;
    if (winner < 0) winner = i;
  }
  if (contenders == 1) return winner;
  winner = 0;
  smallest = Infinity;
  for (let i = 0; i < count; i++) {
    const c = candidateAt(scratch, i);
    if (c.error > limit) continue;
    const error = sumExactly(tile, c, stepOf(tile, c), smallest);
    if (error < smallest) {
      smallest = error;
      winner = i;
    }
  }
  return winner;
}

/** The scale code of a tile of symmetric codes with this amax, clipped. */
export function searchScale(
  tile: Tile,
  scratch: usize,
  format: i32,
  amax: f32,
  emax: i32,
  divisor: f32,
): u32 {
  let count = 0;
  let before: u32 = 0xffffffff;
  const tries = format == scaleE8m0 ? 3 : mostCandidates;
  const base = format == scaleE8m0 ? <i32>e8m0Code(ruleFloor, amax, emax, 0, 0) : 0;
  for (let i = 0; i < tries; i++) {
    let code: u32;
    if (format == scaleE8m0) code = <u32>(i == 0 ? base : i == 1 ? min(base + 1, 254) : max(base - 1, 0));
    else code = encodeScale(format, (amax * fraction(i)) / divisor);
    // equal codes have equal errors, and the first wins
    if (code == before) continue;
    before = code;
    const c = candidateAt(scratch, count++);
    c.scaleCode = code;
    c.scale = decodeScale(format, code);
    c.zero = 0;
    c.minimum = 0;
  }
  return candidateAt(scratch, choose(tile, scratch, count)).scaleCode;
}

/** Scale code and zero point (a code, or the code of the float minimum) for the range low … high, to `out`. */
export function searchRange(
  tile: Tile,
  scratch: usize,
  format: i32,
  low: f32,
  high: f32,
  clip: f32,
  integer: bool,
  out: usize,
): void {
  for (let i = 0; i < mostCandidates; i++) {
    const c = candidateAt(scratch, i);
    const p = <f32>(<f64>fraction(i) * <f64>clip);
    const from = low * p;
    const width = high * p - from;
    c.scaleCode = width == 0 ? 0 : encodeScale(format, width / <f32>tile.last);
    c.scale = decodeScale(format, c.scaleCode);
    c.minimum = 0;
    c.zero = 0;
    if (integer) {
      if (c.scale != 0) c.zero = min(max<f32>(nearest(-from / c.scale), 0), <f32>tile.last);
      c.zeroCode = <u32>c.zero;
    } else {
      c.zeroCode = encodeScale(format, from);
      c.minimum = decodeScale(format, c.zeroCode);
    }
  }
  const best = candidateAt(scratch, choose(tile, scratch, mostCandidates));
  store<u32>(out, best.scaleCode);
  store<u32>(out, best.zeroCode, 4);
}
