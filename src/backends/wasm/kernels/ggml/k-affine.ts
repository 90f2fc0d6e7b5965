// Q4_K and Q5_K (eight sub-blocks of 32) and Q2_K (sixteen of 16); definition in src/formats/ggml/k-affine.ts.
//
// search-affine.ts fits eight sub-blocks at a time. A super-block is declined when one of them is, or when a sub-block
// would keep the codes of its search (its scale, exact or stored, is zero): the host encodes it with the definition.

import { halfBits, halfValue, held, larger, magicAt, nearestInt, smaller, splat, transposeEight } from './lanes';
import { fitPositive } from './positive';
import {
  fitQ2,
  fitQ4,
  fitQ5,
  fitWeighted,
  importanceAt,
  importanceWeights,
  ownWeights,
  searchEnd,
  tooLarge,
  tooSmall,
  valuesAt,
} from './search-affine';

// Scratch of one thread behind the search's, in bytes.
const scalesAt: usize = searchEnd; // 16 f32
const offsetsAt: usize = searchEnd + 64; // 16 f32
const sumsAt: usize = searchEnd + 128; // 16 f32: weight sums
const scaleCodesAt: usize = searchEnd + 192; // 16 bytes
const offsetCodesAt: usize = searchEnd + 208; // 16 bytes
const codesAt: usize = searchEnd + 224; // 256 bytes

/** Codes 0 … qmax of n non-negative values against their maximum; the super-scale, or −1 to decline. */
function againstMaximum(values: usize, n: i32, qmax: f32, codes: usize): f32 {
  let most: f32 = 0;
  let least: f32 = 0;
  for (let j = 0; j < n; j++) {
    most = max(most, load<f32>(values + (j << 2)));
    least = min(least, load<f32>(values + (j << 2)));
  }
  if (least < 0 || (most != 0 && most < 1e-30)) return -1;
  const inverse: f32 = most > 0 ? qmax / most : 0;
  for (let j = 0; j < n; j++) {
    store<u8>(codes + j, min(<i32>qmax, nearestInt(inverse * load<f32>(values + (j << 2)))));
  }
  return most / qmax;
}

/** Sequential sum of squares of 256 values. */
function sumOfSquares(x: usize): f32 {
  let sum: f32 = 0;
  for (let i = 0; i < 1024; i += 4) {
    const v = load<f32>(x + i);
    sum += v * v;
  }
  return sum;
}

/** Magnitudes of a super-block are all zero or within the kernels' range. */
function withinRange(x: usize): bool {
  let a = f32x4.abs(v128.load(x));
  for (let i = 16; i < 1024; i += 16) a = f32x4.pmax(f32x4.abs(v128.load(x + i)), a);
  const b = f32x4.pmax(a, v128.shuffle<i32>(a, a, 2, 3, 0, 1));
  const amax = f32x4.extract_lane(f32x4.pmax(b, v128.shuffle<i32>(b, b, 1, 0, 3, 2)), 0);
  return amax > tooSmall && amax < tooLarge;
}

/**
 * Search all sub-blocks of n values, quantize their scales and offsets, round the values again and leave codes[256],
 * scale and offset codes in scratch. Returns d | dmin << 16, or −1 to decline.
 */
// @ts-ignore: decorator
@inline
function encodeSuperBlock(x: usize, importance: usize, s: usize, n: i32, qmax: i32, scaleMax: f32): i32 {
  if (!withinRange(x)) return -1;
  const groups = n == 32 ? 1 : 2;
  const count = 8 * groups;
  const sigma2: f32 = importance != 0 ? sumOfSquares(x) / (n == 32 ? 128 : 256) : 0;
  const stride = <usize>n << 2;
  for (let g: usize = 0; g < <usize>groups; g++) {
    const scales = s + scalesAt + 32 * g;
    const offsets = s + offsetsAt + 32 * g;
    transposeEight(x + 8 * g * stride, stride, 8, n, s + valuesAt);
    let fine: bool;
    if (importance != 0) {
      transposeEight(importance + 8 * g * stride, stride, 8, n, s + importanceAt);
      importanceWeights(s, n, sigma2, s + sumsAt + 32 * g);
      fine = fitWeighted(s, n, <f32>qmax, scales, offsets);
    } else {
      ownWeights(s, n);
      fine = qmax == 3 ? fitQ2(s, scales, offsets) : qmax == 15 ? fitQ4(s, scales, offsets) : fitQ5(s, scales, offsets);
    }
    if (!fine) return -1;
  }
  const scaleCodes = s + scaleCodesAt;
  const offsetCodes = s + offsetCodesAt;
  let d: f32;
  let dmin: f32;
  if (importance != 0) {
    d = fitPositive(s + scalesAt, count, s + sumsAt, <i32>scaleMax, scaleCodes);
    dmin = fitPositive(s + offsetsAt, count, s + sumsAt, <i32>scaleMax, offsetCodes);
  } else {
    d = againstMaximum(s + scalesAt, count, scaleMax, scaleCodes);
    dmin = againstMaximum(s + offsetsAt, count, scaleMax, offsetCodes);
  }
  if (!(d >= 0 && dmin >= 0 && d < 60000 && dmin < 60000)) return -1;
  const dBits = halfBits(d);
  const dminBits = halfBits(dmin);
  d = halfValue(dBits);
  dmin = halfValue(dminBits);
  // Scales and offsets as stored, in place of the exact ones; a zero scale keeps code 0 only for a flat sub-block.
  for (let j: usize = 0; j < <usize>count; j++) {
    const exact = load<f32>(s + scalesAt + 4 * j);
    const stored = d * <f32>load<u8>(scaleCodes + j);
    if (stored == 0 && exact != 0) return -1;
    store<f32>(s + scalesAt + 4 * j, stored);
    store<f32>(s + offsetsAt + 4 * j, dmin * <f32>load<u8>(offsetCodes + j));
  }
  return requantize(x, s, n, qmax, groups) ? dBits | (dminBits << 16) : -1;
}

/** Codes of all values under the stored scales, to codes[sub-block · n + i]. */
function requantize(x: usize, s: usize, n: i32, qmax: i32, groups: i32): bool {
  const limit = splat(4e6);
  const m = held(magicAt);
  const top = f32x4.add(m, splat(<f32>qmax));
  let fine = i32x4.splat(-1);
  for (let j = 0; j < 8 * groups; j++) {
    const scale = load<f32>(s + scalesAt + (j << 2));
    const offset = splat(load<f32>(s + offsetsAt + (j << 2)));
    const to = s + codesAt + j * n;
    if (scale == 0) {
      for (let i = 0; i < n; i += 16) v128.store(to + i, i32x4.splat(0));
      continue;
    }
    const divisor = splat(scale);
    for (let i = 0; i < n; i += 16) {
      const from = x + ((j * n + i) << 2);
      const a = f32x4.div(f32x4.add(v128.load(from), offset), divisor);
      const b = f32x4.div(f32x4.add(v128.load(from, 16), offset), divisor);
      const c = f32x4.div(f32x4.add(v128.load(from, 32), offset), divisor);
      const e = f32x4.div(f32x4.add(v128.load(from, 48), offset), divisor);
      const reach = f32x4.pmax(f32x4.pmax(f32x4.abs(a), f32x4.abs(b)), f32x4.pmax(f32x4.abs(c), f32x4.abs(e)));
      fine = v128.and(fine, f32x4.lt(reach, limit));
      const base = i32x4.splat(0x4b400000);
      v128.store(
        to + i,
        i8x16.narrow_i16x8_s(
          i16x8.narrow_i32x4_s(
            i32x4.sub(smaller(top, larger(m, f32x4.add(a, m))), base),
            i32x4.sub(smaller(top, larger(m, f32x4.add(b, m))), base),
          ),
          i16x8.narrow_i32x4_s(
            i32x4.sub(smaller(top, larger(m, f32x4.add(c, m))), base),
            i32x4.sub(smaller(top, larger(m, f32x4.add(e, m))), base),
          ),
        ),
      );
    }
  }
  return i32x4.all_true(fine);
}

/** Eight 6-bit scales and offsets in 12 bytes. */
function writeSixBits(s: usize, out: usize): void {
  for (let j: usize = 0; j < 4; j++) {
    const scale = load<u8>(s + scaleCodesAt + j + 4);
    const offset = load<u8>(s + offsetCodesAt + j + 4);
    store<u8>(out + j, load<u8>(s + scaleCodesAt + j) | ((scale >> 4) << 6));
    store<u8>(out + 4 + j, load<u8>(s + offsetCodesAt + j) | ((offset >> 4) << 6));
    store<u8>(out + 8 + j, (scale & 15) | ((offset & 15) << 4));
  }
}

function writeNibbles(codes: usize, out: usize): void {
  const fifteen = i8x16.splat(15);
  for (let c: usize = 0; c < 4; c++) {
    for (let l: usize = 0; l < 32; l += 16) {
      const first = v128.and(v128.load(codes + 64 * c + l), fifteen);
      const second = v128.and(v128.load(codes + 64 * c + 32 + l), fifteen);
      v128.store(out + 32 * c + l, v128.or(first, i16x8.shl(second, 4)));
    }
  }
}

export function q4_k(x: usize, importance: usize, out: usize, flag: usize, s: usize): void {
  const d = encodeSuperBlock(x, importance, s, 32, 15, 63);
  if (d == -1) {
    store<u8>(flag, 1);
    return;
  }
  store<i32>(out, d);
  writeSixBits(s, out + 4);
  writeNibbles(s + codesAt, out + 16);
}

export function q5_k(x: usize, importance: usize, out: usize, flag: usize, s: usize): void {
  const d = encodeSuperBlock(x, importance, s, 32, 31, 63);
  if (d == -1) {
    store<u8>(flag, 1);
    return;
  }
  store<i32>(out, d);
  writeSixBits(s, out + 4);
  const codes = s + codesAt;
  for (let l: usize = 0; l < 32; l += 16) {
    let high = i32x4.splat(0);
    for (let j: usize = 0; j < 8; j++) {
      const bit = v128.and(v128.load(codes + 32 * j + l), i8x16.splat(16));
      high = v128.or(high, j < 4 ? i16x8.shr_u(bit, 4 - <i32>j) : i16x8.shl(bit, <i32>j - 4));
    }
    v128.store(out + 16 + l, high);
  }
  writeNibbles(codes, out + 48);
}

export function q2_k(x: usize, importance: usize, out: usize, flag: usize, s: usize): void {
  const d = encodeSuperBlock(x, importance, s, 16, 3, 15);
  if (d == -1) {
    store<u8>(flag, 1);
    return;
  }
  v128.store(out, v128.or(v128.load(s + scaleCodesAt), i16x8.shl(v128.load(s + offsetCodesAt), 4)));
  const codes = s + codesAt;
  for (let l: usize = 0; l < 64; l += 16) {
    const from = codes + 128 * (l >> 5) + (l & 31);
    const low = v128.or(v128.load(from), i16x8.shl(v128.load(from, 32), 2));
    const high = v128.or(i16x8.shl(v128.load(from, 64), 4), i16x8.shl(v128.load(from, 96), 6));
    v128.store(out + 16 + l, v128.or(low, high));
  }
  store<i32>(out + 80, d);
}
