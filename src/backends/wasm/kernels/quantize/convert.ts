// Stored values as float32 lanes, and the largest magnitude of a run of stored values.
//
// The `dtype` argument is a constant wherever these are called, so that each use compiles to one case.

import { maxLanes } from '../common/args';

export const dtypeF32: i32 = 0;
export const dtypeBf16: i32 = 1;
export const dtypeF16: i32 = 2;

// @ts-ignore: decorator
@inline
export function valueBytes(dtype: i32): usize {
  return dtype == dtypeF32 ? 4 : 2;
}

/** float16 in the low halves of four lanes to float32: exponent and fraction are moved, then scaled by 2^112. */
// @ts-ignore: decorator
@inline
function f16x4(h: v128): v128 {
  const magnitude = v128.and(h, i32x4.splat(0x7fff));
  const scaled = f32x4.mul(i32x4.shl(magnitude, 13), f32x4.splat(5192296858534827628530496329220096.0));
  return v128.or(scaled, i32x4.shl(v128.and(h, i32x4.splat(0x8000)), 16));
}

/** Values 4·part … 4·part + 3 behind `x`. Infinities and NaN of float16 are not handled: they were refused before. */
// @ts-ignore: decorator
@inline
export function lanes(dtype: i32, x: usize, part: usize): v128 {
  if (dtype == dtypeF32) return v128.load(x + part * 16);
  const words = v128.load16x4_u(x + part * 8);
  return dtype == dtypeBf16 ? i32x4.shl(words, 16) : f16x4(words);
}

// @ts-ignore: decorator
@inline
export function maxLanesI(v: v128): i32 {
  let m = i32x4.max_s(v, i8x16.shuffle(v, v, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7));
  m = i32x4.max_s(m, i8x16.shuffle(m, m, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11));
  return i32x4.extract_lane(m, 0);
}

/**
 * Bits of the largest magnitude of `count` values (a multiple of 16) as a float32; 0x7f800000 or more when a NaN or an
 * infinity is among them. Magnitudes order like their bits, in the 16-bit formats too.
 */
// @ts-ignore: decorator
@inline
export function amaxBits(dtype: i32, x: usize, count: i32): i32 {
  const end = x + <usize>count * valueBytes(dtype);
  if (dtype == dtypeF32) {
    const magnitude = i32x4.splat(0x7fffffff);
    let m0 = v128.and(v128.load(x), magnitude);
    let m1 = v128.and(v128.load(x, 16), magnitude);
    m0 = i32x4.max_s(m0, v128.and(v128.load(x, 32), magnitude));
    m1 = i32x4.max_s(m1, v128.and(v128.load(x, 48), magnitude));
    for (x += 64; x < end; x += 64) {
      m0 = i32x4.max_s(m0, v128.and(v128.load(x), magnitude));
      m1 = i32x4.max_s(m1, v128.and(v128.load(x, 16), magnitude));
      m0 = i32x4.max_s(m0, v128.and(v128.load(x, 32), magnitude));
      m1 = i32x4.max_s(m1, v128.and(v128.load(x, 48), magnitude));
    }
    return maxLanesI(i32x4.max_s(m0, m1));
  }
  const magnitude = i16x8.splat(0x7fff);
  let m0 = v128.and(v128.load(x), magnitude);
  let m1 = v128.and(v128.load(x, 16), magnitude);
  for (x += 32; x < end; x += 32) {
    m0 = i16x8.max_s(m0, v128.and(v128.load(x), magnitude));
    m1 = i16x8.max_s(m1, v128.and(v128.load(x, 16), magnitude));
  }
  m0 = i16x8.max_s(m0, m1);
  const most = maxLanesI(i32x4.max_s(v128.and(m0, i32x4.splat(0xffff)), i32x4.shr_u(m0, 16)));
  if (dtype == dtypeBf16) return most << 16;
  if (most >= 0x7c00) return 0x7fc00000;
  return reinterpret<i32>(reinterpret<f32>(most << 13) * <f32>5192296858534827628530496329220096.0);
}

/** Lane i of `a` and `b` by turns, from both halves: the larger of each two. */
// @ts-ignore: decorator
@inline
function join16(a: v128, b: v128): v128 {
  const low = i8x16.shuffle(a, b, 0, 1, 16, 17, 2, 3, 18, 19, 4, 5, 20, 21, 6, 7, 22, 23);
  return i16x8.max_s(low, i8x16.shuffle(a, b, 8, 9, 24, 25, 10, 11, 26, 27, 12, 13, 28, 29, 14, 15, 30, 31));
}

/** Largest magnitude in each lane of `count` bfloat16 values (a multiple of 16). */
// @ts-ignore: decorator
@inline
function lanewiseMaxima(x: usize, count: i32): v128 {
  const magnitude = i16x8.splat(0x7fff);
  let m = i16x8.max_s(v128.and(v128.load(x), magnitude), v128.and(v128.load(x, 16), magnitude));
  for (let i = 16; i < count; i += 16) {
    x += 32;
    const next = i16x8.max_s(v128.and(v128.load(x), magnitude), v128.and(v128.load(x, 16), magnitude));
    m = i16x8.max_s(m, next);
  }
  return m;
}

/**
 * Largest magnitudes (float bits) of four tiles of `count` bfloat16 values each, joined with those in `out`; returns
 * them.
 */
// @ts-ignore: decorator
@inline
export function storeFourMaxima(x: usize, count: i32, out: usize): v128 {
  const bytes = <usize>count << 1;
  const ab = join16(lanewiseMaxima(x, count), lanewiseMaxima(x + bytes, count));
  const cd = join16(lanewiseMaxima(x + 2 * bytes, count), lanewiseMaxima(x + 3 * bytes, count));
  const low = i8x16.shuffle(ab, cd, 0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
  const high = i8x16.shuffle(ab, cd, 8, 9, 10, 11, 24, 25, 26, 27, 12, 13, 14, 15, 28, 29, 30, 31);
  const both = i16x8.max_s(low, high);
  const m = i16x8.max_s(both, i8x16.shuffle(both, both, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7));
  const bits = i32x4.max_s(i32x4.shl(i32x4.extend_low_i16x8_u(m), 16), v128.load(out));
  v128.store(out, bits);
  return bits;
}

/** bfloat16 as integers in the order of the values, -0 below 0, NaN outermost; its own inverse. */
// @ts-ignore: decorator
@inline
function ordered(x: v128): v128 {
  return v128.xor(x, v128.and(i16x8.shr_s(x, 15), i16x8.splat(0x7fff)));
}

/** storeRange for bfloat16; an infinity or NaN, if one is there, becomes an end of the range. */
// @ts-ignore: decorator
@inline
function storeRangeBf16(x: usize, count: i32, start0: f32, start1: f32, out: usize): void {
  let low = i16x8.splat(0x7fff);
  let high = i16x8.splat(-0x8000);
  for (let end = x + (<usize>count << 1); x < end; x += 32) {
    const a = ordered(v128.load(x));
    const b = ordered(v128.load(x, 16));
    low = i16x8.min_s(low, i16x8.min_s(a, b));
    high = i16x8.max_s(high, i16x8.max_s(a, b));
  }
  // the largest of the complements is the complement of the smallest
  const l = maxLanes16(v128.not(low));
  const h = maxLanes16(high);
  const smallest = reinterpret<f32>(<i32>i16x8.extract_lane_s(ordered(i16x8.splat(~l)), 0) << 16);
  const largest = reinterpret<f32>(<i32>i16x8.extract_lane_s(ordered(i16x8.splat(h)), 0) << 16);
  store<f32>(out, start0 < smallest ? start0 : smallest);
  store<f32>(out, start1 > largest ? start1 : largest, 4);
}

// @ts-ignore: decorator
@inline
function maxLanes16(v: v128): i16 {
  const low = i32x4.shr_s(i32x4.shl(v, 16), 16);
  return <i16>maxLanesI(i32x4.max_s(low, i32x4.shr_s(v, 16)));
}

/** Smallest and largest of `count` values (a multiple of 16) and of the two starts, to `out` and `out + 4`. */
// @ts-ignore: decorator
@inline
export function storeRange(dtype: i32, x: usize, count: i32, start0: f32, start1: f32, out: usize): void {
  if (dtype == dtypeBf16) {
    storeRangeBf16(x, count, start0, start1, out);
    return;
  }
  let low0 = f32x4.splat(start0);
  let low1 = low0;
  let high0 = f32x4.splat(start1);
  let high1 = high0;
  for (let end = x + <usize>count * valueBytes(dtype); x < end; x += 8 * valueBytes(dtype)) {
    const a = lanes(dtype, x, 0);
    const b = lanes(dtype, x, 1);
    low0 = f32x4.pmin(low0, a);
    low1 = f32x4.pmin(low1, b);
    high0 = f32x4.pmax(high0, a);
    high1 = f32x4.pmax(high1, b);
  }
  store<f32>(out, -maxLanes(f32x4.neg(f32x4.pmin(low0, low1))));
  store<f32>(out, maxLanes(f32x4.pmax(high0, high1)), 4);
}
