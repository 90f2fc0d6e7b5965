// Q4_0 and Q8_0, one block of 32 at a time; definition in src/formats/ggml/legacy.ts.
//
// A block is declined (flag 1, host encodes it) when 1/d would leave the f32 range or x is not finite.

import { eightAndHalfAt, halfBits, held, maxLane, minLane, narrow, packNibbles, splat } from './lanes';

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

export function q4_0(x: usize, out: usize, flags: usize, blocks: i32): void {
  for (let n = 0; n < blocks; n++, x += 128, out += 18) {
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
    const d = signed / -8;
    const inverse = splat(d != 0 ? 1 / d : 0);
    store<u16>(out, halfBits(d));
    const offset = held(eightAndHalfAt);
    const fifteen = i8x16.splat(15);
    const a = narrow(scaled(x, inverse, offset), scaled(x + 16, inverse, offset), scaled(x + 32, inverse, offset), scaled(x + 48, inverse, offset));
    const b = narrow(
      scaled(x + 64, inverse, offset),
      scaled(x + 80, inverse, offset),
      scaled(x + 96, inverse, offset),
      scaled(x + 112, inverse, offset),
    );
    v128.store(out, packNibbles(i8x16.min_s(a, fifteen), i8x16.min_s(b, fifteen)), 2);
  }
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
