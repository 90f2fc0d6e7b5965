// MXFP4 and NVFP4 of ggml; definition in src/formats/ggml/fp4.ts.
//
// A code is the number of midpoints {0.5, 1.5, 2.5, 3.5, 5, 7, 10}·d that |x| exceeds, d half the scale; the products
// are exact. Declined: maxima near the ends of the f32 range, and NVFP4 maxima so far above the largest scale that
// distances round.

import { held, maxLane, midpointsAt, narrow, packNibbles, splat } from './lanes';

/** Minus the magnitude code of four values, m0 … m6 the midpoints. */
// @ts-ignore: decorator
@inline
function negativeCode(x: v128, m0: v128, m1: v128, m2: v128, m3: v128, m4: v128, m5: v128, m6: v128): v128 {
  const a = f32x4.abs(x);
  return i32x4.add(
    i32x4.add(i32x4.add(f32x4.gt(a, m0), f32x4.gt(a, m1)), i32x4.add(f32x4.gt(a, m2), f32x4.gt(a, m3))),
    i32x4.add(i32x4.add(f32x4.gt(a, m4), f32x4.gt(a, m5)), f32x4.gt(a, m6)),
  );
}

/** Sixteen codes with sign bit as bytes; zero codes have no sign. */
// @ts-ignore: decorator
@inline
function sixteenCodes(a: v128, b: v128, c: v128, e: v128, d: v128): v128 {
  const m0 = f32x4.mul(d, held(midpointsAt));
  const m1 = f32x4.mul(d, held(midpointsAt + 4));
  const m2 = f32x4.mul(d, held(midpointsAt + 8));
  const m3 = f32x4.mul(d, held(midpointsAt + 12));
  const m4 = f32x4.mul(d, held(midpointsAt + 16));
  const m5 = f32x4.mul(d, held(midpointsAt + 20));
  const m6 = f32x4.mul(d, held(midpointsAt + 24));
  const codes = narrow(
    negativeCode(a, m0, m1, m2, m3, m4, m5, m6),
    negativeCode(b, m0, m1, m2, m3, m4, m5, m6),
    negativeCode(c, m0, m1, m2, m3, m4, m5, m6),
    negativeCode(e, m0, m1, m2, m3, m4, m5, m6),
  );
  const code = i8x16.neg(codes);
  // Narrowing saturates, so the bytes keep the sign bits of the floats; a code that is not zero is negative here.
  const sign = v128.and(v128.and(narrow(a, b, c, e), codes), i8x16.splat(-128));
  return v128.or(code, i16x8.shr_u(sign, 4));
}

/**
 * @param thresholds 256 words: from which mantissa on floor(log2f) of an f32 with this exponent field rounds up.
 */
export function mxfp4(x: usize, out: usize, flags: usize, blocks: i32, thresholds: usize): void {
  for (let n = 0; n < blocks; n++, x += 128, out += 17) {
    const v0 = v128.load(x);
    const v1 = v128.load(x, 16);
    const v2 = v128.load(x, 32);
    const v3 = v128.load(x, 48);
    const v4 = v128.load(x, 64);
    const v5 = v128.load(x, 80);
    const v6 = v128.load(x, 96);
    const v7 = v128.load(x, 112);
    const a = f32x4.pmax(
      f32x4.pmax(f32x4.pmax(f32x4.abs(v0), f32x4.abs(v1)), f32x4.pmax(f32x4.abs(v2), f32x4.abs(v3))),
      f32x4.pmax(f32x4.pmax(f32x4.abs(v4), f32x4.abs(v5)), f32x4.pmax(f32x4.abs(v6), f32x4.abs(v7))),
    );
    const amax = maxLane(a);
    if (amax == 0) {
      store<u8>(out, 0);
      v128.store(out, i32x4.splat(0), 1);
      continue;
    }
    if (!(amax < 1e36) || amax < 1e-35) {
      store<u8>(flags + n, 1);
      continue;
    }
    const bits = reinterpret<u32>(amax);
    const exponent = bits >>> 23;
    const up = <u32>((bits & 0x7fffff) >= load<u32>(thresholds + (<usize>exponent << 2)));
    const byte = exponent + up - 2;
    store<u8>(out, byte);
    const d = i32x4.splat((byte - 1) << 23);
    v128.store(out, packNibbles(sixteenCodes(v0, v1, v2, v3, d), sixteenCodes(v4, v5, v6, v7, d)), 1);
  }
}

/** Unsigned E4M3 code of a scale in [0, 448]: half up, 248 and more give 0x7e. */
// @ts-ignore: decorator
@inline
function scaleCode(scale: f32): i32 {
  const bits = reinterpret<i32>(scale);
  const exponent = (bits >>> 23) - 120;
  if (exponent <= 0) return min(7, <i32>(scale * 512 + 0.5));
  const code = (exponent << 3) + ((((bits >>> 19) & 15) + 1) >>> 1);
  return code >= 0x78 ? 0x7e : code;
}

/** Half of the value of an E4M3 code; infinity for zero, which no value exceeds. */
// @ts-ignore: decorator
@inline
function halfScale(code: i32): f32 {
  if (code == 0) return Infinity;
  if (code < 8) return <f32>code * 0.0009765625;
  return reinterpret<f32>(((code >>> 3) + 119) << 23 | (code & 7) << 20);
}

export function nvfp4(x: usize, out: usize, flags: usize, blocks: i32): void {
  for (let n = 0; n < blocks; n++, out += 36) {
    let finite = true;
    for (let s: usize = 0; s < 4; s++, x += 64) {
      const v0 = v128.load(x);
      const v1 = v128.load(x, 16);
      const v2 = v128.load(x, 32);
      const v3 = v128.load(x, 48);
      const a = f32x4.pmax(
        f32x4.pmax(f32x4.abs(v0), f32x4.abs(v1)),
        f32x4.pmax(f32x4.abs(v2), f32x4.abs(v3)),
      );
      const amax = maxLane(a);
      if (!(amax < 1e6)) finite = false;
      const code = scaleCode(min(amax / 6, <f32>448));
      store<u8>(out + s, code);
      const codes = sixteenCodes(v0, v1, v2, v3, splat(halfScale(code)));
      const packed = v128.or(codes, i16x8.shl(v128.shuffle<i64>(codes, codes, 1, 0), 4));
      v128.store64_lane(out + 8 * s, packed, 0, 4);
    }
    if (!finite) store<u8>(flags + n, 1);
  }
}
