// Stored values to float32, exactly, with the largest magnitude on the way.
//
// All routines work on `count` values, a multiple of 16, and return the largest absolute value as float bits: bits at
// or above 0x7f800000 mean that a NaN or an infinity is among them, because magnitudes order like their bits.

export const dtypeF32: i32 = 0;
export const dtypeBf16: i32 = 1;
export const dtypeF16: i32 = 2;

// @ts-ignore: decorator
@inline
function maxLanesI(v: v128): i32 {
  const a = i32x4.max_s(v, i8x16.shuffle(v, v, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7));
  return max(i32x4.extract_lane(a, 0), i32x4.extract_lane(a, 1));
}

/** Bits of the largest magnitude of float32 values. */
export function amaxBits(x: usize, count: i32): i32 {
  const magnitude = i32x4.splat(0x7fffffff);
  let m0 = i32x4.splat(0);
  let m1 = i32x4.splat(0);
  for (let end = x + (<usize>count << 2); x < end; x += 64) {
    m0 = i32x4.max_s(m0, v128.and(v128.load(x), magnitude));
    m1 = i32x4.max_s(m1, v128.and(v128.load(x, 16), magnitude));
    m0 = i32x4.max_s(m0, v128.and(v128.load(x, 32), magnitude));
    m1 = i32x4.max_s(m1, v128.and(v128.load(x, 48), magnitude));
  }
  return maxLanesI(i32x4.max_s(m0, m1));
}

/** Largest magnitude of 16-bit codes in their own bits: both 16-bit formats order like integers too. */
export function amaxBits16(x: usize, count: i32): i32 {
  const magnitude = i16x8.splat(0x7fff);
  let m0 = i16x8.splat(0);
  let m1 = i16x8.splat(0);
  for (let end = x + (<usize>count << 1); x < end; x += 32) {
    m0 = i16x8.max_u(m0, v128.and(v128.load(x), magnitude));
    m1 = i16x8.max_u(m1, v128.and(v128.load(x, 16), magnitude));
  }
  m0 = i16x8.max_u(m0, m1);
  return maxLanesI(i32x4.max_s(v128.and(m0, i32x4.splat(0xffff)), i32x4.shr_u(m0, 16)));
}

/** Widens bfloat16: the bits are the upper half of a float32. */
export function bf16ToF32(x: usize, out: usize, count: i32): void {
  for (let end = x + (<usize>count << 1); x < end; x += 16, out += 32) {
    const v = v128.load(x);
    v128.store(out, i32x4.shl(i32x4.extend_low_i16x8_u(v), 16));
    v128.store(out, i32x4.shl(i32x4.extend_high_i16x8_u(v), 16), 16);
  }
}

/** float16 in the low halves of four lanes to float32: exponent and fraction are moved, then scaled by 2^112. */
// @ts-ignore: decorator
@inline
export function f16x4(h: v128): v128 {
  const magnitude = v128.and(h, i32x4.splat(0x7fff));
  const scaled = f32x4.mul(i32x4.shl(magnitude, 13), f32x4.splat(5192296858534827628530496329220096.0));
  const special = v128.and(i32x4.ge_s(magnitude, i32x4.splat(0x7c00)), i32x4.splat(0x7f800000));
  const sign = i32x4.shl(v128.and(h, i32x4.splat(0x8000)), 16);
  return v128.or(v128.or(scaled, special), sign);
}

/** Widens float16. */
export function f16ToF32(x: usize, out: usize, count: i32): void {
  for (let end = x + (<usize>count << 1); x < end; x += 16, out += 32) {
    const v = v128.load(x);
    v128.store(out, f16x4(i32x4.extend_low_i16x8_u(v)));
    v128.store(out, f16x4(i32x4.extend_high_i16x8_u(v)), 16);
  }
}
