// A row of stored values to codes of an element type: nearest, ties to even, decided as src/formats/minifloat.ts does.
//
// Quotient q = x · fl(1 / step). Integers round q; minifloats round q divided by the spacing of its binade, so that both
// are one rounding f → n to an integer, done by adding a power of two whose last place is 1. The reference decides by
// comparing |x| with fl(step × midpoint), which can differ from rounding f only where f is within float32 error of a
// midpoint: when a lane of 16 has (f − n)² ≥ 0.2499, redo.ts makes that comparison. For a power of two as step q is exact
// and nothing is redone. Steps: 0 gives the codes of zero; below 2^-126 everything is redone, as 1 / step may overflow.

import { lanes, valueBytes } from './convert';
import { storeNibbles } from './pack';
import { midpoint, redoFloat, redoInt, redoQuotient } from './redo';
import { ruleAbsmax, ruleModelopt, ruleTransformerEngine } from './scale';

/**
 * What the rows need of `count` steps, four at a time: fl(1 / step) or 0, and the squared |f − n| from which lanes are
 * redone: all for tiny steps, none for exact quotients and for zero. The arrays have room for a multiple of four.
 * Under a library's rule a step of 0 divides like others; Transformer Engine multiplies by fl(1 / step), so that the
 * product is never redone.
 */
export function prepareSteps(rule: i32, steps: usize, inverses: usize, limits: usize, count: i32): void {
  if (rule == ruleTransformerEngine) {
    for (let t = 0; t < count; t += 4, steps += 16, inverses += 16, limits += 16) {
      const inverse = f32x4.div(f32x4.splat(1), v128.load(steps));
      v128.store(inverses, f32x4.pmin(inverse, f32x4.splat(3.4028234663852886e38)));
      v128.store(limits, f32x4.splat(2));
    }
    return;
  }
  const zeroLimit = f32x4.splat(rule > ruleAbsmax ? -1 : 2);
  const smallest = f32x4.splat(1.1754943508222875e-38);
  const zero = i32x4.splat(0);
  for (let t = 0; t < count; t += 4, steps += 16, inverses += 16, limits += 16) {
    const step = v128.load(steps);
    const tiny = f32x4.lt(step, smallest);
    v128.store(inverses, v128.andnot(f32x4.div(f32x4.splat(1), step), tiny));
    const power = i32x4.eq(v128.and(step, i32x4.splat(0x7fffff)), zero);
    let limit = v128.bitselect(f32x4.splat(2), f32x4.splat(0.2499), power);
    limit = v128.bitselect(f32x4.splat(-1), limit, tiny);
    v128.store(limits, v128.bitselect(zeroLimit, limit, f32x4.eq(step, f32x4.splat(0))));
  }
}

/** (f − n)² */
// @ts-ignore: decorator
@inline
function distance(f: v128, n: v128): v128 {
  const d = f32x4.sub(f, n);
  return f32x4.mul(d, d);
}

/** Writes 16 code bytes at position `first` of a row. */
// @ts-ignore: decorator
@inline
function emit(nibbles: bool, out: usize, first: i32, codes: v128): void {
  if (nibbles) storeNibbles(out + (<usize>first >> 1), codes);
  else v128.store(out + <usize>first, codes);
}

/** 1.5 · 2^23: adding it rounds numbers up to 2^22 to integers, which then stand in the low bits. */
const magic: f32 = 12582912;

// @ts-ignore: decorator
@inline
function quotient(x: v128, minimum: v128, scale: v128): v128 {
  const f = f32x4.mul(f32x4.sub(x, minimum), scale);
  return f32x4.pmax(f32x4.pmin(f, f32x4.splat(30000)), f32x4.splat(-30000));
}

/**
 * Integers: clamp(round((x − minimum) / step) + zero, low, high) for a row; tiles of `tileCols` values have their own
 * steps[t] (see prepareSteps), minimums[t] and zeros[t] (no arrays: both 0). Codes are the low 8 bits, or nibbles.
 */
// @ts-ignore: decorator
@inline
export function encodeRowInt(
  dtype: i32,
  x: usize,
  cols: i32,
  tileCols: i32,
  steps: usize,
  inverses: usize,
  limits: usize,
  minimums: usize,
  zeros: usize,
  low: i32,
  high: i32,
  nibbles: bool,
  out: usize,
): void {
  const lowest = i16x8.splat(<i16>low);
  const highest = i16x8.splat(<i16>high);
  const byte = i16x8.splat(0xff);
  const shift = f32x4.splat(magic);
  const base = i32x4.splat(reinterpret<i32>(magic));
  for (let first = 0; first < cols; first += tileCols, steps += 4, inverses += 4, limits += 4) {
    const step = load<f32>(steps);
    let minimum: f32 = 0;
    let zero: i32 = 0;
    if (minimums != 0) {
      minimum = load<f32>(minimums);
      zero = load<i32>(zeros);
      minimums += 4;
      zeros += 4;
    }
    const scale = v128.load32_splat(inverses);
    const limit = v128.load32_splat(limits);
    const m = f32x4.splat(minimum);
    const z = i16x8.splat(<i16>zero);
    const end = min(first + tileCols, cols);
    for (let i = first; i < end; i += 16, x += 16 * valueBytes(dtype)) {
      const f0 = quotient(lanes(dtype, x, 0), m, scale);
      const f1 = quotient(lanes(dtype, x, 1), m, scale);
      const f2 = quotient(lanes(dtype, x, 2), m, scale);
      const f3 = quotient(lanes(dtype, x, 3), m, scale);
      const t0 = f32x4.add(f0, shift);
      const t1 = f32x4.add(f1, shift);
      const t2 = f32x4.add(f2, shift);
      const t3 = f32x4.add(f3, shift);
      let far = f32x4.pmax(distance(f0, f32x4.sub(t0, shift)), distance(f1, f32x4.sub(t1, shift)));
      far = f32x4.pmax(far, distance(f2, f32x4.sub(t2, shift)));
      far = f32x4.pmax(far, distance(f3, f32x4.sub(t3, shift)));
      let a: v128;
      let b: v128;
      if (v128.any_true(f32x4.ge(far, limit))) {
        const d = f32x4.splat(step);
        a = i16x8.narrow_i32x4_s(redoInt(lanes(dtype, x, 0), m, d), redoInt(lanes(dtype, x, 1), m, d));
        b = i16x8.narrow_i32x4_s(redoInt(lanes(dtype, x, 2), m, d), redoInt(lanes(dtype, x, 3), m, d));
      } else {
        a = i16x8.narrow_i32x4_s(i32x4.sub(t0, base), i32x4.sub(t1, base));
        b = i16x8.narrow_i32x4_s(i32x4.sub(t2, base), i32x4.sub(t3, base));
      }
      a = i16x8.min_s(i16x8.max_s(i16x8.add_sat_s(a, z), lowest), highest);
      b = i16x8.min_s(i16x8.max_s(i16x8.add_sat_s(b, z), lowest), highest);
      emit(nibbles, out, i, i8x16.narrow_i16x8_u(v128.and(a, byte), v128.and(b, byte)));
    }
  }
}

/** Magnitude |x / step|, at most twice the largest element: beyond it the code is the last one anyway. */
// @ts-ignore: decorator
@inline
function magnitude(x: v128, scale: v128, top: v128): v128 {
  return f32x4.pmin(f32x4.mul(f32x4.abs(x), scale), top);
}

/** Exponent field of each lane, not below the smallest binade. */
// @ts-ignore: decorator
@inline
function binade(q: v128, lowest: v128): v128 {
  return i32x4.max_s(v128.and(q, i32x4.splat(0x7f800000)), lowest);
}

/** Code = integer of t + first code of the binade; `offset` holds the bits of 2^23 and the bias. */
// @ts-ignore: decorator
@inline
function floatCode(t: v128, e: v128, shift: i32, offset: v128, last: v128): v128 {
  return i32x4.min_s(i32x4.sub(i32x4.add(t, i32x4.shr_u(e, shift)), offset), last);
}

/**
 * Minifloats, saturating at magnitude code `last`, for a row as above. The sign goes to bit 7 − signShift. Calls with a
 * constant mantissaBits compile to shifts by constants, which are much faster. `library`, a constant too: E2M1 under a
 * library's rule.
 */
// @ts-ignore: decorator
@inline
export function encodeRowFloat(
  dtype: i32,
  x: usize,
  cols: i32,
  tileCols: i32,
  steps: usize,
  inverses: usize,
  limits: usize,
  mantissaBits: i32,
  bias: i32,
  last: i32,
  signShift: i32,
  library: bool,
  rule: i32,
  nibbles: bool,
  out: usize,
): void {
  // x + (−0) is x; x + 0 makes −0 positive
  const signedZero = i32x4.splat(rule == ruleModelopt ? 0 : 0x80000000);
  const top = f32x4.splat(midpoint(last, mantissaBits, bias) * 2);
  const lowest = i32x4.splat((128 - bias) << 23);
  const unit = i32x4.splat((254 + mantissaBits) << 23);
  const shift = 23 - mantissaBits;
  const round = f32x4.splat(8388608);
  const offset = i32x4.splat(0x4b000000 + ((128 - bias) << mantissaBits));
  const largest = i32x4.splat(last);
  const signBit = i8x16.splat(-128);
  for (let first = 0; first < cols; first += tileCols, steps += 4, inverses += 4, limits += 4) {
    const step = load<f32>(steps);
    const scale = v128.load32_splat(inverses);
    const limit = v128.load32_splat(limits);
    const end = min(first + tileCols, cols);
    for (let i = first; i < end; i += 16, x += 16 * valueBytes(dtype)) {
      const x0 = library ? f32x4.add(lanes(dtype, x, 0), signedZero) : lanes(dtype, x, 0);
      const x1 = library ? f32x4.add(lanes(dtype, x, 1), signedZero) : lanes(dtype, x, 1);
      const x2 = library ? f32x4.add(lanes(dtype, x, 2), signedZero) : lanes(dtype, x, 2);
      const x3 = library ? f32x4.add(lanes(dtype, x, 3), signedZero) : lanes(dtype, x, 3);
      // narrowing with saturation keeps the sign of each value, also of -0
      const narrow = i8x16.narrow_i16x8_s(i16x8.narrow_i32x4_s(x0, x1), i16x8.narrow_i32x4_s(x2, x3));
      const signs = i16x8.shr_u(v128.and(narrow, signBit), signShift);
      const q0 = magnitude(x0, scale, top);
      const q1 = magnitude(x1, scale, top);
      const q2 = magnitude(x2, scale, top);
      const q3 = magnitude(x3, scale, top);
      const e0 = binade(q0, lowest);
      const e1 = binade(q1, lowest);
      const e2 = binade(q2, lowest);
      const e3 = binade(q3, lowest);
      const f0 = f32x4.mul(q0, i32x4.sub(unit, e0));
      const f1 = f32x4.mul(q1, i32x4.sub(unit, e1));
      const f2 = f32x4.mul(q2, i32x4.sub(unit, e2));
      const f3 = f32x4.mul(q3, i32x4.sub(unit, e3));
      const t0 = f32x4.add(f0, round);
      const t1 = f32x4.add(f1, round);
      const t2 = f32x4.add(f2, round);
      const t3 = f32x4.add(f3, round);
      let far = f32x4.pmax(distance(f0, f32x4.sub(t0, round)), distance(f1, f32x4.sub(t1, round)));
      far = f32x4.pmax(far, distance(f2, f32x4.sub(t2, round)));
      far = f32x4.pmax(far, distance(f3, f32x4.sub(t3, round)));
      let a: v128;
      let b: v128;
      if (v128.any_true(f32x4.ge(far, limit))) {
        const d = f32x4.splat(step);
        if (library) {
          a = i16x8.narrow_i32x4_s(redoQuotient(x0, d), redoQuotient(x1, d));
          b = i16x8.narrow_i32x4_s(redoQuotient(x2, d), redoQuotient(x3, d));
        } else {
          a = i16x8.narrow_i32x4_s(
            redoFloat(x0, d, mantissaBits, bias, last),
            redoFloat(x1, d, mantissaBits, bias, last),
          );
          b = i16x8.narrow_i32x4_s(
            redoFloat(x2, d, mantissaBits, bias, last),
            redoFloat(x3, d, mantissaBits, bias, last),
          );
        }
      } else {
        a = i16x8.narrow_i32x4_s(
          floatCode(t0, e0, shift, offset, largest),
          floatCode(t1, e1, shift, offset, largest),
        );
        b = i16x8.narrow_i32x4_s(
          floatCode(t2, e2, shift, offset, largest),
          floatCode(t3, e3, shift, offset, largest),
        );
      }
      const codes = i8x16.narrow_i16x8_u(a, b);
      emit(nibbles, out, i, v128.or(codes, signs));
    }
  }
}
