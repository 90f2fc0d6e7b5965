// Sixteen small integers to sixteen f32 values: the last step of every block decoder.

/** dst[i] = q[i] · scale for the 16 signed bytes of q. */
// @ts-ignore: decorator
@inline
export function spread(q: v128, scale: f32, dst: usize): void {
  const s = f32x4.splat(scale);
  const low = i16x8.extend_low_i8x16_s(q);
  const high = i16x8.extend_high_i8x16_s(q);
  v128.store(dst, f32x4.mul(f32x4.convert_i32x4_s(i32x4.extend_low_i16x8_s(low)), s));
  v128.store(dst, f32x4.mul(f32x4.convert_i32x4_s(i32x4.extend_high_i16x8_s(low)), s), 16);
  v128.store(dst, f32x4.mul(f32x4.convert_i32x4_s(i32x4.extend_low_i16x8_s(high)), s), 32);
  v128.store(dst, f32x4.mul(f32x4.convert_i32x4_s(i32x4.extend_high_i16x8_s(high)), s), 48);
}

/** dst[i] = q[i] · scale + offset, both operations rounded. */
// @ts-ignore: decorator
@inline
export function spreadAffine(q: v128, scale: f32, offset: f32, dst: usize): void {
  spread(q, scale, dst);
  const m = f32x4.splat(offset);
  v128.store(dst, f32x4.add(v128.load(dst), m));
  v128.store(dst, f32x4.add(v128.load(dst, 16), m), 16);
  v128.store(dst, f32x4.add(v128.load(dst, 32), m), 32);
  v128.store(dst, f32x4.add(v128.load(dst, 48), m), 48);
}

/** Low nibbles of sixteen bytes. */
// @ts-ignore: decorator
@inline
export function lowNibbles(bytes: v128): v128 {
  return v128.and(bytes, i8x16.splat(15));
}

/** High nibbles of sixteen bytes. */
// @ts-ignore: decorator
@inline
export function highNibbles(bytes: v128): v128 {
  return v128.and(i16x8.shr_u(bytes, 4), i8x16.splat(15));
}

/** Bits `shift` and `shift` + 1 of sixteen bytes. */
// @ts-ignore: decorator
@inline
export function twoBits(bytes: v128, shift: i32): v128 {
  return v128.and(i16x8.shr_u(bytes, shift), i8x16.splat(3));
}

/** Bit `shift` of sixteen bytes, as 0 or `value`. */
// @ts-ignore: decorator
@inline
export function oneBit(bytes: v128, shift: i32, value: i8): v128 {
  return v128.and(i8x16.ne(v128.and(bytes, i8x16.splat(<i8>(<i32>1 << shift))), i8x16.splat(0)), i8x16.splat(value));
}

/** The low sixteen bits of a word as sixteen bytes 0 or `value`, lowest bit first. */
// @ts-ignore: decorator
@inline
export function bitsToBytes(word: u32, value: i8): v128 {
  const spreadBytes = i8x16.swizzle(i32x4.splat(<i32>word), v128(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1));
  const mask = v128(1, 2, 4, 8, 16, 32, 64, -128, 1, 2, 4, 8, 16, 32, 64, -128);
  return v128.and(i8x16.ne(v128.and(spreadBytes, mask), i8x16.splat(0)), i8x16.splat(value));
}
