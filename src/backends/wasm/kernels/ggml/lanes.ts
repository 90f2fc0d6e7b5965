// Four-lane building blocks of the ggml quantizers.
//
// The scalar definition (src/formats/ggml) adds in sequence, so a block's sums cannot be spread over lanes. Instead
// each lane works on its own sub-block and keeps the sequential order: eight sub-blocks run side by side as two
// vectors (A: 0–3, B: 4–7), element i of all eight at base + 32·i. Only plain multiplies and adds, every one rounded.

/** 1.5·2^23: adding it rounds an f32 below 2^22 to an integer, ties to even, readable in the low mantissa bits. */
export const magic: f32 = 12582912;

// @ts-ignore: decorator
@inline
export function splat(x: f32): v128 {
  return f32x4.splat(x);
}

const constants = memory.data<f32>([12582912, 0.5, 1.5, 2.5, 3.5, 5, 7, 10, 8.5, 16.5]);
export const magicAt: usize = 0;
export const midpointsAt: usize = 4;
export const eightAndHalfAt: usize = 32;
export const sixteenAndHalfAt: usize = 36;

/**
 * A constant that is read once and then stays in a register. Compilers move literal vectors into the loops that use
 * them, where each costs several instructions.
 */
// @ts-ignore: decorator
@inline
export function held(at: usize): v128 {
  return v128.load32_splat(constants + at);
}

/** Lane-wise choice: yes where the mask is set. */
// @ts-ignore: decorator
@inline
export function select(yes: v128, no: v128, mask: v128): v128 {
  return v128.bitselect(yes, no, mask);
}

/** x < y ? x : y, one instruction (f32x4.min also orders zeros and passes NaN on). */
// @ts-ignore: decorator
@inline
export function smaller(y: v128, x: v128): v128 {
  return f32x4.pmin(y, x);
}

// @ts-ignore: decorator
@inline
export function larger(y: v128, x: v128): v128 {
  return f32x4.pmax(y, x);
}

// @ts-ignore: decorator
@inline
export function maxLane(v: v128): f32 {
  const a = f32x4.pmax(v, v128.shuffle<i32>(v, v, 2, 3, 0, 1));
  return f32x4.extract_lane(f32x4.pmax(a, v128.shuffle<i32>(a, a, 1, 0, 3, 2)), 0);
}

// @ts-ignore: decorator
@inline
export function minLane(v: v128): f32 {
  const a = f32x4.pmin(v, v128.shuffle<i32>(v, v, 2, 3, 0, 1));
  return f32x4.extract_lane(f32x4.pmin(a, v128.shuffle<i32>(a, a, 1, 0, 3, 2)), 0);
}

/** Largest magnitude of `count` values (a multiple of 4). */
export function largestMagnitude(x: usize, count: i32): f32 {
  let a = f32x4.abs(v128.load(x));
  for (let i = 16, end = count << 2; i < end; i += 16) a = f32x4.pmax(a, f32x4.abs(v128.load(x + i)));
  return maxLane(a);
}

/**
 * Transpose eight runs of n values (n a multiple of 4), run j at x + j·stride bytes: element i of run j goes to
 * out + 32·i + 4·j. Runs from `runs` on repeat the last one.
 */
export function transposeEight(x: usize, stride: usize, runs: i32, n: i32, out: usize): void {
  for (let g = 0; g < 2; g++) {
    const last = runs - 1;
    const p0 = x + <usize>min(4 * g, last) * stride;
    const p1 = x + <usize>min(4 * g + 1, last) * stride;
    const p2 = x + <usize>min(4 * g + 2, last) * stride;
    const p3 = x + <usize>min(4 * g + 3, last) * stride;
    let to = out + <usize>(16 * g);
    for (let i: usize = 0, end = <usize>n << 2; i < end; i += 16) {
      const a = v128.load(p0 + i);
      const b = v128.load(p1 + i);
      const c = v128.load(p2 + i);
      const d = v128.load(p3 + i);
      const ab0 = v128.shuffle<i32>(a, b, 0, 4, 1, 5);
      const ab1 = v128.shuffle<i32>(a, b, 2, 6, 3, 7);
      const cd0 = v128.shuffle<i32>(c, d, 0, 4, 1, 5);
      const cd1 = v128.shuffle<i32>(c, d, 2, 6, 3, 7);
      v128.store(to, v128.shuffle<i64>(ab0, cd0, 0, 2));
      v128.store(to, v128.shuffle<i64>(ab0, cd0, 1, 3), 32);
      v128.store(to, v128.shuffle<i64>(ab1, cd1, 0, 2), 64);
      v128.store(to, v128.shuffle<i64>(ab1, cd1, 1, 3), 96);
      to += 128;
    }
  }
}

/** Round a small f32 (below 2^22) to the nearest integer, ties to even. */
// @ts-ignore: decorator
@inline
export function nearestInt(v: f32): i32 {
  return (reinterpret<i32>(v + magic) & 0x7fffff) - 0x400000;
}

/** f16 code of a finite f32: nearest, ties to even; overflow gives infinity. */
export function halfBits(value: f32): i32 {
  const bits = reinterpret<i32>(value);
  const sign = (bits >>> 16) & 0x8000;
  const a = bits & 0x7fffffff;
  if (a >= 0x477ff000) return sign | 0x7c00;
  if (a < 0x38800000) return sign | (reinterpret<i32>(reinterpret<f32>(a) + 0.5) - 0x3f000000);
  return sign | ((a - 0x38000000 + 0xfff + ((a >>> 13) & 1)) >>> 13);
}

/** Value of a finite f16 code. */
// @ts-ignore: decorator
@inline
export function halfValue(code: i32): f32 {
  const v = reinterpret<f32>((code & 0x7fff) << 13) * reinterpret<f32>((127 + 112) << 23);
  return (code & 0x8000) != 0 ? -v : v;
}

/** 16 nibbles from the low halves of 32 codes: byte j = codes[j] | codes[j + 16] << 4. */
// @ts-ignore: decorator
@inline
export function packNibbles(low: v128, high: v128): v128 {
  return v128.or(low, i16x8.shl(high, 4));
}

/** The fifth bits of 16 codes below 32, code j to bit j. */
// @ts-ignore: decorator
@inline
export function fifthBits(codes: v128): i32 {
  return i8x16.bitmask(i16x8.shl(codes, 3));
}

/** Bytes from four vectors of small integers. */
// @ts-ignore: decorator
@inline
export function narrow(a: v128, b: v128, c: v128, d: v128): v128 {
  return i8x16.narrow_i16x8_s(i16x8.narrow_i32x4_s(a, b), i16x8.narrow_i32x4_s(c, d));
}
