// Q4_0, Q4_1, Q5_0, Q5_1 and Q8_0 without importance, one block of 32 at a time; definition in
// src/formats/ggml/legacy.ts.
//
// A block is declined (flag 1, host encodes it) when 1/d would leave the f32 range or x is not finite.

import {
  eightAndHalfAt,
  fifthBits,
  halfBits,
  held,
  maxLane,
  midpointsAt,
  minLane,
  narrow,
  packNibbles,
  sixteenAndHalfAt,
  splat,
} from './lanes';

// @ts-ignore: decorator
@inline
function declined(amax: f32): bool {
  return !(amax < 1e38) || (amax < 1e-35 && amax != 0);
}

// @ts-ignore: decorator
@inline
function scaled(x: usize, inverse: v128, offset: v128): v128 {
  return i32x4.relaxed_trunc_f32x4_s(f32x4.add(f32x4.mul(v128.load(x), inverse), offset));
}

/** Q4_0 (bits 4) and Q5_0. */
// @ts-ignore: decorator
@inline
function symmetric(bits: i32, bytes: usize, x: usize, out: usize, flags: usize, blocks: i32): void {
  for (let n = 0; n < blocks; n++, x += 128, out += bytes) {
    let high = v128.load(x);
    let low = high;
    for (let i = 16; i < 128; i += 16) {
      const v = v128.load(x + i);
      high = f32x4.pmax(high, v);
      low = f32x4.pmin(low, v);
    }
    const most = maxLane(high);
    const least = minLane(low);
    const amax = max(abs(most), abs(least));
    if (declined(amax) || isNaN(most) || isNaN(least)) {
      store<u8>(flags + n, 1);
      continue;
    }
    let signed = most > -least ? most : least;
    if (amax == 0) signed = 0;
    else if (most == -least) {
      // Both signs reach the maximum: the first one counts.
      let p = x;
      while (abs(load<f32>(p)) != amax) p += 4;
      signed = load<f32>(p);
    }
    const d = signed / (bits == 4 ? <f32>-8 : <f32>-16);
    const inverse = splat(d != 0 ? 1 / d : 0);
    store<u16>(out, halfBits(d));
    const offset = held(bits == 4 ? eightAndHalfAt : sixteenAndHalfAt);
    const top = i8x16.splat(bits == 4 ? 15 : 31);
    const a = narrow(scaled(x, inverse, offset), scaled(x + 16, inverse, offset), scaled(x + 32, inverse, offset), scaled(x + 48, inverse, offset));
    const b = narrow(
      scaled(x + 64, inverse, offset),
      scaled(x + 80, inverse, offset),
      scaled(x + 96, inverse, offset),
      scaled(x + 112, inverse, offset),
    );
    packCodes(bits, i8x16.min_s(a, top), i8x16.min_s(b, top), out + 2);
  }
}

/** 32 codes of 4 bits, or the mask of fifth bits and the rest of codes of 5. */
// @ts-ignore: decorator
@inline
export function packCodes(bits: i32, low: v128, high: v128, out: usize): void {
  if (bits == 4) v128.store(out, packNibbles(low, high));
  else {
    store<i32>(out, fifthBits(low) | (fifthBits(high) << 16));
    const fifteen = i8x16.splat(15);
    v128.store(out, packNibbles(v128.and(low, fifteen), v128.and(high, fifteen)), 4);
  }
}

export function q4_0(x: usize, out: usize, flags: usize, blocks: i32): void {
  symmetric(4, 18, x, out, flags, blocks);
}

export function q5_0(x: usize, out: usize, flags: usize, blocks: i32): void {
  symmetric(5, 22, x, out, flags, blocks);
}

/** (x − low)·inverse + ½, truncated. */
// @ts-ignore: decorator
@inline
function raised(x: v128, low: v128, inverse: v128, half: v128): v128 {
  return i32x4.relaxed_trunc_f32x4_s(f32x4.add(f32x4.mul(f32x4.sub(x, low), inverse), half));
}

/** Q4_1 (bits 4) and Q5_1. */
// @ts-ignore: decorator
@inline
function affine(bits: i32, bytes: usize, x: usize, out: usize, flags: usize, blocks: i32): void {
  for (let n = 0; n < blocks; n++, x += 128, out += bytes) {
    const v0 = v128.load(x);
    const v1 = v128.load(x, 16);
    const v2 = v128.load(x, 32);
    const v3 = v128.load(x, 48);
    const v4 = v128.load(x, 64);
    const v5 = v128.load(x, 80);
    const v6 = v128.load(x, 96);
    const v7 = v128.load(x, 112);
    const most = maxLane(
      f32x4.pmax(f32x4.pmax(f32x4.pmax(v0, v1), f32x4.pmax(v2, v3)), f32x4.pmax(f32x4.pmax(v4, v5), f32x4.pmax(v6, v7))),
    );
    let least = minLane(
      f32x4.pmin(f32x4.pmin(f32x4.pmin(v0, v1), f32x4.pmin(v2, v3)), f32x4.pmin(f32x4.pmin(v4, v5), f32x4.pmin(v6, v7))),
    );
    const range = most - least;
    if (!(most < 1e37) || !(least > -1e37) || (range < 1e-35 && range != 0)) {
      store<u8>(flags + n, 1);
      continue;
    }
    if (least == 0) {
      // Zeros of both signs are equal: the first one counts.
      let p = x;
      while (load<f32>(p) != 0) p += 4;
      least = load<f32>(p);
    }
    const d = range / (bits == 4 ? <f32>15 : <f32>31);
    const inverse = splat(d != 0 ? 1 / d : 0);
    store<u16>(out, halfBits(d));
    store<u16>(out, halfBits(least), 2);
    const m = splat(least);
    const half = held(midpointsAt);
    let a = narrow(raised(v0, m, inverse, half), raised(v1, m, inverse, half), raised(v2, m, inverse, half), raised(v3, m, inverse, half));
    let b = narrow(raised(v4, m, inverse, half), raised(v5, m, inverse, half), raised(v6, m, inverse, half), raised(v7, m, inverse, half));
    if (bits == 4) {
      a = i8x16.min_s(a, i8x16.splat(15));
      b = i8x16.min_s(b, i8x16.splat(15));
    }
    packCodes(bits, a, b, out + 4);
  }
}

export function q4_1(x: usize, out: usize, flags: usize, blocks: i32): void {
  affine(4, 20, x, out, flags, blocks);
}

export function q5_1(x: usize, out: usize, flags: usize, blocks: i32): void {
  affine(5, 24, x, out, flags, blocks);
}

/** Halves away from zero: truncate after adding the float below one half with the value's sign. */
// @ts-ignore: decorator
@inline
function rounded(x: usize, inverse: v128): v128 {
  const v = f32x4.mul(v128.load(x), inverse);
  const half = v128.or(v128.and(v, i32x4.splat(0x80000000)), i32x4.splat(0x3effffff));
  return i32x4.relaxed_trunc_f32x4_s(f32x4.add(v, half));
}

export function q8_0(x: usize, out: usize, flags: usize, blocks: i32): void {
  for (let n = 0; n < blocks; n++, x += 128, out += 34) {
    let a = f32x4.abs(v128.load(x));
    for (let i = 16; i < 128; i += 16) a = f32x4.pmax(f32x4.abs(v128.load(x + i)), a);
    const amax = maxLane(a);
    if (declined(amax)) {
      store<u8>(flags + n, 1);
      continue;
    }
    const d = amax / 127;
    const inverse = splat(d != 0 ? 1 / d : 0);
    store<u16>(out, halfBits(d));
    v128.store(
      out,
      narrow(rounded(x, inverse), rounded(x + 16, inverse), rounded(x + 32, inverse), rounded(x + 48, inverse)),
      2,
    );
    v128.store(
      out,
      narrow(rounded(x + 64, inverse), rounded(x + 80, inverse), rounded(x + 96, inverse), rounded(x + 112, inverse)),
      18,
    );
  }
}
