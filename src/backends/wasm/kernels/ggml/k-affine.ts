// Q4_K and Q5_K (eight sub-blocks of 32) and Q2_K (sixteen of 16); definition in src/formats/ggml/k-affine.ts.
//
// fitEight runs the scale and minimum search of eight sub-blocks side by side. Per candidate: one pass for the codes
// and the sums, one for the error; both read transposed values and weights from scratch (3 KiB: L1). A super-block is
// declined when rounding to integers could leave ±2^22, when numbers come near the ends of the f32 range, or when a
// sub-block would keep the codes of its search (stored scale zero): the host encodes it with the definition.

import { halfBits, halfValue, held, larger, magicAt, nearestInt, select, smaller, splat, transposeEight } from './lanes';
import { fitPositive } from './positive';

// Scratch of one thread, in bytes.
const valuesAt: usize = 0; // 32 × 8 transposed values
const weightsAt: usize = 1024;
const trialAt: usize = 2048;
const scalesAt: usize = 3072; // 16 f32
const offsetsAt: usize = 3136; // 16 f32
const sumsAt: usize = 3200; // 16 f32: weight sums
const scaleCodesAt: usize = 3264; // 16 bytes
const offsetCodesAt: usize = 3280; // 16 bytes
const codesAt: usize = 3296; // 256 bytes
const importanceAt: usize = 3584; // 32 × 8 transposed

/** Largest and smallest magnitudes that the kernels take. */
const tooLarge: f32 = 1e9;
const tooSmall: f32 = 1e-12;

/** Weights without importance: mean magnitude √(Σ x²/n) + |x| for n = 32, |x| for n = 16. */
function ownWeights(s: usize, n: i32): void {
  for (let g: usize = 0; g < 32; g += 16) {
    const x = s + valuesAt + g;
    const w = s + weightsAt + g;
    let average = splat(0);
    if (n == 32) {
      for (let i = 0; i < 32; i++) {
        const v = v128.load(x + (i << 5));
        average = f32x4.add(average, f32x4.mul(v, v));
      }
      average = f32x4.sqrt(f32x4.mul(average, splat(0.03125)));
    }
    for (let i = 0; i < n; i++) {
      v128.store(w + (i << 5), f32x4.add(average, f32x4.abs(v128.load(x + (i << 5)))));
    }
  }
}

/** Weights importance·√(sigma2 + x²) and their sums per sub-block. */
function importanceWeights(s: usize, n: i32, sigma2: f32, sums: usize): void {
  const sigma = splat(sigma2);
  for (let g: usize = 0; g < 32; g += 16) {
    let sum = splat(0);
    for (let i = g, end = g + (<usize>n << 5); i < end; i += 32) {
      const v = v128.load(s + valuesAt + i);
      const w = f32x4.mul(v128.load(s + importanceAt + i), f32x4.sqrt(f32x4.add(sigma, f32x4.mul(v, v))));
      sum = f32x4.add(sum, w);
      v128.store(s + weightsAt + i, w);
    }
    v128.store(sums + g, sum);
  }
}

// @ts-ignore: decorator
@inline
function errorTerm(w: v128, e: v128, absolute: bool): v128 {
  return f32x4.mul(w, absolute ? f32x4.abs(e) : f32x4.mul(e, e));
}

/**
 * Search scale and minimum of the eight transposed sub-blocks in scratch s; stores them to scales and offsets (8 f32
 * each). Returns false when the block has to be declined.
 */
// @ts-ignore: decorator
@inline
function fitEight(
  s: usize,
  n: i32,
  qmax: f32,
  start: f32,
  step: f32,
  steps: i32,
  absolute: bool,
  scales: usize,
  offsets: usize,
): bool {
  const zero = splat(0);
  const m = held(magicAt);
  const top = f32x4.add(m, splat(qmax));
  const end = <usize>n << 5;
  const x = s + valuesAt;
  const w = s + weightsAt;
  const trial = s + trialAt;
  const tiny = splat(1e-30);
  const limit = splat(4e6);

  let minA = v128.load(x);
  let minB = v128.load(x, 16);
  let maxA = minA;
  let maxB = minB;
  let swA = zero;
  let swB = zero;
  let sxA = zero;
  let sxB = zero;
  for (let i: usize = 0; i < end; i += 32) {
    const xa = v128.load(x + i);
    const xb = v128.load(x + i, 16);
    const wa = v128.load(w + i);
    const wb = v128.load(w + i, 16);
    minA = smaller(minA, xa);
    minB = smaller(minB, xb);
    maxA = larger(maxA, xa);
    maxB = larger(maxB, xb);
    swA = f32x4.add(swA, wa);
    swB = f32x4.add(swB, wb);
    sxA = f32x4.add(sxA, f32x4.mul(wa, xa));
    sxB = f32x4.add(sxB, f32x4.mul(wb, xb));
  }
  minA = smaller(minA, zero);
  minB = smaller(minB, zero);
  // Sub-blocks without extent: scale 0, minimum as it is; the search runs on with a made-up range and is ignored.
  const flatA = f32x4.eq(minA, maxA);
  const flatB = f32x4.eq(minB, maxB);
  const flatMinA = minA;
  const flatMinB = minB;
  maxA = select(f32x4.add(minA, splat(1)), maxA, flatA);
  maxB = select(f32x4.add(minB, splat(1)), maxB, flatB);
  const lowestA = minA;
  const lowestB = minB;
  let bad = v128.or(f32x4.lt(f32x4.sub(maxA, minA), tiny), f32x4.lt(f32x4.sub(maxB, minB), tiny));

  let inverseA = f32x4.div(splat(qmax), f32x4.sub(maxA, minA));
  let inverseB = f32x4.div(splat(qmax), f32x4.sub(maxB, minB));
  let scaleA = f32x4.div(splat(1), inverseA);
  let scaleB = f32x4.div(splat(1), inverseB);
  let bestA = zero;
  let bestB = zero;
  for (let i: usize = 0; i < end; i += 32) {
    const xa = v128.load(x + i);
    const xb = v128.load(x + i, 16);
    let la = f32x4.add(f32x4.mul(inverseA, f32x4.sub(xa, minA)), m);
    let lb = f32x4.add(f32x4.mul(inverseB, f32x4.sub(xb, minB)), m);
    la = f32x4.sub(smaller(top, larger(m, la)), m);
    lb = f32x4.sub(smaller(top, larger(m, lb)), m);
    const ea = f32x4.sub(f32x4.add(f32x4.mul(scaleA, la), minA), xa);
    const eb = f32x4.sub(f32x4.add(f32x4.mul(scaleB, lb), minB), xb);
    bestA = f32x4.add(bestA, errorTerm(v128.load(w + i), ea, absolute));
    bestB = f32x4.add(bestB, errorTerm(v128.load(w + i, 16), eb, absolute));
  }
  for (let k = 0; k <= steps; k++) {
    const target = splat(start + step * <f32>k + qmax);
    inverseA = f32x4.div(target, f32x4.sub(maxA, minA));
    inverseB = f32x4.div(target, f32x4.sub(maxB, minB));
    // The grid of an accepted fit may not cover the values; its codes must still round within 2^22.
    const reachA = f32x4.mul(f32x4.abs(inverseA), f32x4.add(f32x4.abs(maxA), f32x4.add(f32x4.abs(lowestA), f32x4.abs(minA))));
    const reachB = f32x4.mul(f32x4.abs(inverseB), f32x4.add(f32x4.abs(maxB), f32x4.add(f32x4.abs(lowestB), f32x4.abs(minB))));
    bad = v128.or(bad, v128.not(v128.and(f32x4.lt(reachA, limit), f32x4.lt(reachB, limit))));
    let slA = zero;
    let slB = zero;
    let sllA = zero;
    let sllB = zero;
    let sxlA = zero;
    let sxlB = zero;
    for (let i: usize = 0; i < end; i += 32) {
      const xa = v128.load(x + i);
      let la = f32x4.add(f32x4.mul(inverseA, f32x4.sub(xa, minA)), m);
      la = f32x4.sub(smaller(top, larger(m, la)), m);
      v128.store(trial + i, la);
      const wla = f32x4.mul(v128.load(w + i), la);
      slA = f32x4.add(slA, wla);
      sllA = f32x4.add(sllA, f32x4.mul(wla, la));
      sxlA = f32x4.add(sxlA, f32x4.mul(wla, xa));
      const xb = v128.load(x + i, 16);
      let lb = f32x4.add(f32x4.mul(inverseB, f32x4.sub(xb, minB)), m);
      lb = f32x4.sub(smaller(top, larger(m, lb)), m);
      v128.store(trial + i, lb, 16);
      const wlb = f32x4.mul(v128.load(w + i, 16), lb);
      slB = f32x4.add(slB, wlb);
      sllB = f32x4.add(sllB, f32x4.mul(wlb, lb));
      sxlB = f32x4.add(sxlB, f32x4.mul(wlb, xb));
    }
    const detA = f32x4.sub(f32x4.mul(swA, sllA), f32x4.mul(slA, slA));
    const detB = f32x4.sub(f32x4.mul(swB, sllB), f32x4.mul(slB, slB));
    let newScaleA = f32x4.div(f32x4.sub(f32x4.mul(swA, sxlA), f32x4.mul(sxA, slA)), detA);
    let newScaleB = f32x4.div(f32x4.sub(f32x4.mul(swB, sxlB), f32x4.mul(sxB, slB)), detB);
    let newMinA = f32x4.div(f32x4.sub(f32x4.mul(sllA, sxA), f32x4.mul(slA, sxlA)), detA);
    let newMinB = f32x4.div(f32x4.sub(f32x4.mul(sllB, sxB), f32x4.mul(slB, sxlB)), detB);
    const aboveA = f32x4.gt(newMinA, zero);
    const aboveB = f32x4.gt(newMinB, zero);
    if (v128.any_true(v128.or(aboveA, aboveB))) {
      newScaleA = select(f32x4.div(sxlA, sllA), newScaleA, aboveA);
      newScaleB = select(f32x4.div(sxlB, sllB), newScaleB, aboveB);
      newMinA = v128.andnot(newMinA, aboveA);
      newMinB = v128.andnot(newMinB, aboveB);
    }
    let errorA = zero;
    let errorB = zero;
    for (let i: usize = 0; i < end; i += 32) {
      const ea = f32x4.sub(f32x4.add(f32x4.mul(newScaleA, v128.load(trial + i)), newMinA), v128.load(x + i));
      const eb = f32x4.sub(f32x4.add(f32x4.mul(newScaleB, v128.load(trial + i, 16)), newMinB), v128.load(x + i, 16));
      errorA = f32x4.add(errorA, errorTerm(v128.load(w + i), ea, absolute));
      errorB = f32x4.add(errorB, errorTerm(v128.load(w + i, 16), eb, absolute));
    }
    const takeA = v128.and(f32x4.gt(detA, zero), f32x4.lt(errorA, bestA));
    const takeB = v128.and(f32x4.gt(detB, zero), f32x4.lt(errorB, bestB));
    bestA = select(errorA, bestA, takeA);
    bestB = select(errorB, bestB, takeB);
    scaleA = select(newScaleA, scaleA, takeA);
    scaleB = select(newScaleB, scaleB, takeB);
    minA = select(newMinA, minA, takeA);
    minB = select(newMinB, minB, takeB);
  }
  // A fit of scale 0 keeps the codes of its search.
  bad = v128.or(bad, v128.andnot(f32x4.eq(scaleA, zero), flatA));
  bad = v128.or(bad, v128.andnot(f32x4.eq(scaleB, zero), flatB));
  v128.store(scales, v128.andnot(scaleA, flatA));
  v128.store(scales, v128.andnot(scaleB, flatB), 16);
  v128.store(offsets, f32x4.neg(select(flatMinA, minA, flatA)));
  v128.store(offsets, f32x4.neg(select(flatMinB, minB, flatB)), 16);
  return !v128.any_true(bad);
}

function fitQ2(s: usize, scales: usize, offsets: usize): bool {
  return fitEight(s, 16, 3, -0.5, 0.1, 15, true, scales, offsets);
}
function fitQ4(s: usize, scales: usize, offsets: usize): bool {
  return fitEight(s, 32, 15, -1, 0.1, 20, false, scales, offsets);
}
function fitQ5(s: usize, scales: usize, offsets: usize): bool {
  return fitEight(s, 32, 31, -0.5, 0.1, 15, false, scales, offsets);
}
function fitWeighted(s: usize, n: i32, qmax: f32, scales: usize, offsets: usize): bool {
  return fitEight(s, n, qmax, -0.9, 0.05, 36, false, scales, offsets);
}

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
