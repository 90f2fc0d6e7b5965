// MXFP4 to nearest even under power-of-two scales alone, without comparisons.
//
// With z = |x| / scale, a product by a power of two, and 2^e the power of two below z, 1 at least: the last place of
// P = 2^(e + 22) is half of 2^e, the step of E2M1 there, so z + P is rounded to nearest even in such steps. Its bits less
// those of P are their number n, and n + 2e is the code; 7 is the largest. Lanes are narrowed to bytes and bytes to pairs of
// nibbles, a group at a time. Constants are loaded from memory, as in common/math.ts.

import { at } from '../common/args';
import { e8m0Code } from '../quantize/scale';

/** Below 2^-100 products could leave the normal range. */
export const lowestCode: u32 = 27;

const magnitudeBits: usize = memory.data<u32>([0x7fffffff]);
const exponentBits: usize = memory.data<u32>([0x7f800000]);
const oneBits: usize = memory.data<u32>([0x3f800000]);
/** Bits of 2^22 as a factor of a power of two. */
const lift: usize = memory.data<u32>([22 << 23]);
/** Twice the bias of f32, in 16 bits. */
const bias2: usize = memory.data<u32>([0x00fe00fe]);
const sevens: usize = memory.data<u32>([0x07070707]);
const signBits: usize = memory.data<u32>([0x80808080]);
const lowBytes: usize = memory.data<u32>([0x00ff00ff]);

/** Largest magnitude of 32 numbers, as float bits. */
// @ts-ignore: decorator
@inline
export function largest(x: usize): u32 {
  const mask = v128.load32_splat(magnitudeBits);
  let m = i32x4.max_u(v128.and(v128.load(x), mask), v128.and(v128.load(x, 16), mask));
  let n = i32x4.max_u(v128.and(v128.load(x, 32), mask), v128.and(v128.load(x, 48), mask));
  m = i32x4.max_u(m, i32x4.max_u(v128.and(v128.load(x, 64), mask), v128.and(v128.load(x, 80), mask)));
  n = i32x4.max_u(n, i32x4.max_u(v128.and(v128.load(x, 96), mask), v128.and(v128.load(x, 112), mask)));
  const most = i32x4.max_u(m, n);
  const half = i32x4.max_u(most, v128.shuffle<i32>(most, most, 2, 3, 0, 1));
  return max<u32>(i32x4.extract_lane(half, 0), i32x4.extract_lane(half, 1));
}

/** n + 2 (e + 127) of four numbers. */
// @ts-ignore: decorator
@inline
function steps(v: v128, inverse: v128, magnitude: v128, exponent: v128, one: v128, up: v128): v128 {
  const z = f32x4.mul(v128.and(v, magnitude), inverse);
  const power = i32x4.max_s(v128.and(z, exponent), one);
  const base = i32x4.add(power, up);
  return i32x4.add(i32x4.sub(f32x4.add(z, base), base), i32x4.shr_u(power, 22));
}

/** Codes of sixteen numbers, two a byte; the constants are those of steps(). */
// @ts-ignore: decorator
@inline
function encode16(x: usize, s: v128, m: v128, e: v128, one: v128, up: v128, to: usize): void {
  const bias = v128.load32_splat(bias2);
  const v0 = v128.load(x);
  const v1 = v128.load(x, 16);
  const low = i16x8.narrow_i32x4_s(steps(v0, s, m, e, one, up), steps(v1, s, m, e, one, up));
  const v2 = v128.load(x, 32);
  const v3 = v128.load(x, 48);
  const high = i16x8.narrow_i32x4_s(steps(v2, s, m, e, one, up), steps(v3, s, m, e, one, up));
  const numbers = i8x16.narrow_i16x8_u(i16x8.sub(low, bias), i16x8.sub(high, bias));
  const codes = i8x16.min_u(numbers, v128.load32_splat(sevens));
  // narrowing saturates, so signs stay
  const signs = i8x16.narrow_i16x8_s(i16x8.narrow_i32x4_s(v0, v1), i16x8.narrow_i32x4_s(v2, v3));
  const bytes = v128.or(codes, i16x8.shr_u(v128.and(signs, v128.load32_splat(signBits)), 4));
  const pairs = v128.and(v128.or(bytes, i16x8.shr_u(bytes, 4)), v128.load32_splat(lowBytes));
  v128.store64_lane(to, i8x16.narrow_i16x8_u(pairs, pairs), 0);
}

/** Codes of a group to nearest even; `s`: 1 / scale. The store between the halves keeps engines from mixing them. */
// @ts-ignore: decorator
@inline
function encodeWith(x: usize, s: v128, m: v128, e: v128, one: v128, up: v128, to: usize): void {
  encode16(x, s, m, e, one, up, to);
  encode16(x + 64, s, m, e, one, up, to + 8);
}

/** 1 / scale, normal for codes below 254. */
// @ts-ignore: decorator
@inline
function inverse(code: u32): v128 {
  return f32x4.splat(reinterpret<f32>((254 - code) << 23));
}

/** Codes of a group to nearest even under the scale of `code`, below 254. */
export function encodeEven(from: usize, code: u32, to: usize): void {
  const m = v128.load32_splat(magnitudeBits);
  const e = v128.load32_splat(exponentBits);
  encodeWith(from, inverse(code), m, e, v128.load32_splat(oneBits), v128.load32_splat(lift), to);
}

/** Scale of group g of `last`; −1 where it is not finite, or has a scale at the ends of the range, or does not exist. */
// @ts-ignore: decorator
@inline
function plainCode(x: usize, rule: i32, g: i32, last: i32): i32 {
  if (g >= last) return -1;
  const amax = largest(at(x, g << 5));
  const code = e8m0Code(rule, reinterpret<f32>(amax), 2, 0, 0);
  return amax < 0x7f800000 && code >= lowestCode && code < 254 ? code : -1;
}

/**
 * Groups first … last−1 to nearest even under the scales of a rule that looks at the largest magnitude, as long as nothing
 * is special: returns the first group that is not finite or has a scale at the ends of the range, or last.
 */
export function evenGroups(x: usize, codes: usize, scales: usize, rule: i32, first: i32, last: i32): i32 {
  const m = v128.load32_splat(magnitudeBits);
  const e = v128.load32_splat(exponentBits);
  const one = v128.load32_splat(oneBits);
  const up = v128.load32_splat(lift);
  // a group's scale is found while the one before it is encoded: a long chain that nothing else waits for
  let code = plainCode(x, rule, first, last);
  for (let g = first; g < last; g++) {
    if (code < 0) return g;
    const next = plainCode(x, rule, g + 1, last);
    store<u8>(scales + <usize>g, <u8>code);
    encodeWith(at(x, g << 5), inverse(code), m, e, one, up, codes + (<usize>g << 4));
    code = next;
  }
  return last;
}
