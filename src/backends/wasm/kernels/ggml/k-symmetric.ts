// Q3_K and Q6_K: sixteen sub-blocks of 16, eight at a time in lanes; definition in src/formats/ggml/k-symmetric.ts.
//
// search-symmetric.ts and, for Q3_K without importance, coordinates.ts find the scales. Declined like the affine types:
// numbers near the ends of the range, or a sub-block whose stored scale is zero though its search found one.

import { fitCoordinates } from './coordinates';
import { halfBits, halfValue, held, larger, largestMagnitude, magicAt, nearestInt, smaller, splat, transposeEight } from './lanes';
import { fitQ3, fitQ6, magnitudesAt, scalesAt, searchEnd, valuesAt, weightsAt } from './search-symmetric';
import { fitSigned } from './signed';

// Scratch of one thread behind the search's, in bytes.
const codesAt: usize = searchEnd; // 256 bytes
const sumsAt: usize = searchEnd + 256; // 16 f32: weight sums
const scaleCodesAt: usize = searchEnd + 320; // 16 bytes

/** Codes 0 … 2·half−1 under the stored scales. */
// @ts-ignore: decorator
@inline
function requantize(x: usize, s: usize, half: i32): void {
  const m = held(magicAt);
  const top = f32x4.add(m, splat(<f32>(half - 1)));
  const bottom = f32x4.sub(m, splat(<f32>half));
  const base = i32x4.splat(0x4b400000 - half);
  for (let j = 0; j < 16; j++) {
    const scale = load<f32>(s + scalesAt + (j << 2));
    if (scale == 0) {
      v128.store(s + codesAt + 16 * j, i32x4.splat(0));
      continue;
    }
    const d = splat(scale);
    const from = x + 64 * j;
    const a = f32x4.div(v128.load(from), d);
    const b = f32x4.div(v128.load(from, 16), d);
    const c = f32x4.div(v128.load(from, 32), d);
    const e = f32x4.div(v128.load(from, 48), d);
    v128.store(
      s + codesAt + 16 * j,
      i8x16.narrow_i16x8_s(
        i16x8.narrow_i32x4_s(
          i32x4.sub(smaller(top, larger(bottom, f32x4.add(a, m))), base),
          i32x4.sub(smaller(top, larger(bottom, f32x4.add(b, m))), base),
        ),
        i16x8.narrow_i32x4_s(
          i32x4.sub(smaller(top, larger(bottom, f32x4.add(c, m))), base),
          i32x4.sub(smaller(top, larger(bottom, f32x4.add(e, m))), base),
        ),
      ),
    );
  }
}

/** The scale of largest magnitude with its sign; the first one wins. */
function largestScale(s: usize): f32 {
  let signed: f32 = 0;
  for (let j: usize = 0; j < 16; j++) {
    const scale = load<f32>(s + scalesAt + 4 * j);
    if (abs(scale) > abs(signed)) signed = scale;
  }
  return signed;
}

function encode(x: usize, importance: usize, out: usize, s: usize): bool {
  for (let g: usize = 0; g < 16; g += 8) {
    transposeEight(x + 64 * g, 64, 8, 16, s + valuesAt);
    if (importance != 0) transposeEight(importance + 64 * g, 64, 8, 16, s + weightsAt);
    if (!fitQ6(s, importance != 0, g)) return false;
  }
  const signed = largestScale(s);
  if (!(abs(signed) >= 1e-14)) return false;
  const inverse: f32 = -128 / signed;
  const bits = halfBits(1 / inverse);
  const d = halfValue(bits);
  store<u16>(out + 208, bits);
  for (let j: usize = 0; j < 16; j++) {
    const scale = load<f32>(s + scalesAt + 4 * j);
    const code = min(127, nearestInt(inverse * scale));
    store<i8>(out + 192 + j, code);
    const stored = d * <f32>code;
    // Kept codes, or quotients beyond the range of the rounding trick.
    if (scale != 0 && !(load<f32>(s + magnitudesAt + 4 * j) < abs(stored) * 1e6)) return false;
    store<f32>(s + scalesAt + 4 * j, stored);
  }
  requantize(x, s, 32);
  return true;
}

/** ql[128], qh[64] (the scales and d are written already). */
function pack(codes: usize, out: usize): void {
  const fifteen = i8x16.splat(15);
  for (let h: usize = 0; h < 2; h++) {
    for (let l: usize = 0; l < 32; l += 16) {
      const from = codes + 128 * h + l;
      const a = v128.load(from);
      const b = v128.load(from, 32);
      const c = v128.load(from, 64);
      const e = v128.load(from, 96);
      const to = out + 64 * h + l;
      v128.store(to, v128.or(v128.and(a, fifteen), i16x8.shl(v128.and(c, fifteen), 4)));
      v128.store(to, v128.or(v128.and(b, fifteen), i16x8.shl(v128.and(e, fifteen), 4)), 32);
      // Bits 4 and 5 of the four codes, at 0, 2, 4 and 6.
      const pair = i8x16.splat(48);
      const low = v128.or(i16x8.shr_u(v128.and(a, pair), 4), i16x8.shr_u(v128.and(b, pair), 2));
      const high = v128.or(v128.and(c, pair), i16x8.shl(v128.and(e, pair), 2));
      v128.store(out + 32 * h + l, v128.or(low, high), 128);
    }
  }
}

export function q6_k(x: usize, importance: usize, out: usize, flag: usize, s: usize): void {
  if (encode(x, importance, out, s)) pack(s + codesAt, out);
  else store<u8>(flag, 1);
}

/** Weights importance·√(sigma2 + x²) of eight transposed sub-blocks, importance transposed in their place, and sums. */
function importanceWeights(s: usize, sigma2: f32, sums: usize): void {
  const sigma = splat(sigma2);
  for (let g: usize = 0; g < 32; g += 16) {
    let sum = splat(0);
    for (let i = s + g, end = s + 512; i < end; i += 32) {
      const v = v128.load(i, valuesAt);
      const w = f32x4.mul(v128.load(i, weightsAt), f32x4.sqrt(f32x4.add(sigma, f32x4.mul(v, v))));
      sum = f32x4.add(sum, w);
      v128.store(i, w, weightsAt);
    }
    v128.store(sums + g, sum);
  }
}

/** Search of a Q3_K super-block: scales, scale codes, d as f16 bits; −1 to decline. */
function fitThreeBits(x: usize, importance: usize, s: usize): i32 {
  let sigma2: f32 = 0;
  if (importance != 0) {
    for (let i: usize = 0; i < 1024; i += 4) sigma2 += load<f32>(x + i) * load<f32>(x + i);
    sigma2 /= 128;
  }
  for (let g: usize = 0; g < 16; g += 8) {
    transposeEight(x + 64 * g, 64, 8, 16, s + valuesAt);
    if (importance != 0) {
      transposeEight(importance + 64 * g, 64, 8, 16, s + weightsAt);
      importanceWeights(s, sigma2, s + sumsAt + 4 * g);
      if (!fitQ3(s, g)) return -1;
    } else if (!fitCoordinates(s, g)) return -1;
  }
  const signed = largestScale(s);
  if (!(abs(signed) >= 1e-14)) return -1;
  if (importance != 0) return halfBits(fitSigned(s + scalesAt, s + sumsAt, signed, s + scaleCodesAt, s + valuesAt));
  const inverse: f32 = -32 / signed;
  for (let j: usize = 0; j < 16; j++) {
    const l = nearestInt(inverse * load<f32>(s + scalesAt + 4 * j));
    store<u8>(s + scaleCodesAt + j, max(-32, min(31, l)) + 32);
  }
  return halfBits(1 / inverse);
}

/** Six-bit scales in 12 bytes: low nibbles of 0 … 7 and 8 … 15, then the upper bits, four to a byte. */
function packScales(codes: usize, out: usize): void {
  for (let j: usize = 0; j < 4; j++) {
    const a = <u32>load<u8>(codes + j);
    const b = <u32>load<u8>(codes + 4 + j);
    const c = <u32>load<u8>(codes + 8 + j);
    const e = <u32>load<u8>(codes + 12 + j);
    store<u8>(out + j, (a & 15) | ((c & 15) << 4));
    store<u8>(out + 4 + j, (b & 15) | ((e & 15) << 4));
    store<u8>(out + 8 + j, (a >> 4) | ((b >> 4) << 2) | ((c >> 4) << 4) | ((e >> 4) << 6));
  }
}

/** hmask[32] and qs[64]. */
function packThreeBits(codes: usize, out: usize): void {
  const three = i8x16.splat(3);
  for (let l: usize = 0; l < 32; l += 16) {
    let high = i32x4.splat(0);
    for (let k: usize = 0; k < 8; k++) {
      const bit = v128.and(v128.load(codes + 32 * k + l), i8x16.splat(4));
      high = v128.or(high, k < 2 ? i16x8.shr_u(bit, 2 - <i32>k) : i16x8.shl(bit, <i32>k - 2));
    }
    v128.store(out + l, high);
  }
  for (let l: usize = 0; l < 64; l += 16) {
    const from = codes + 128 * (l >> 5) + (l & 31);
    const low = v128.or(v128.and(v128.load(from), three), i16x8.shl(v128.and(v128.load(from, 32), three), 2));
    const top = v128.or(
      i16x8.shl(v128.and(v128.load(from, 64), three), 4),
      i16x8.shl(v128.and(v128.load(from, 96), three), 6),
    );
    v128.store(out + 32 + l, v128.or(low, top));
  }
}

export function q3_k(x: usize, importance: usize, out: usize, flag: usize, s: usize): void {
  if (largestMagnitude(x, 256) == 0) {
    memory.fill(out, 0, 110);
    return;
  }
  const bits = fitThreeBits(x, importance, s);
  let fine = bits >= 0;
  const d = halfValue(bits);
  for (let j: usize = 0; j < 16; j++) {
    const exact = load<f32>(s + scalesAt + 4 * j);
    const stored = d * <f32>(<i32>load<u8>(s + scaleCodesAt + j) - 32);
    // Kept codes, or quotients beyond the range of the rounding trick.
    if (exact != 0 && !(load<f32>(s + magnitudesAt + 4 * j) < abs(stored) * 1e6)) fine = false;
    store<f32>(s + scalesAt + 4 * j, exact == 0 ? 0 : stored);
  }
  if (!fine) {
    store<u8>(flag, 1);
    return;
  }
  store<u16>(out + 108, bits);
  packScales(s + scaleCodesAt, out + 96);
  requantize(x, s, 4);
  packThreeBits(s + codesAt, out);
}
