// Search for scale and minimum of eight sub-blocks side by side (Q2_K, Q4_K, Q5_K; Q4_1 and Q5_1 under importance);
// definition: fitAffine in src/formats/ggml/search-affine.ts.
//
// Values and weights are transposed, one lane a sub-block. Per candidate: one pass for the codes and the sums, one for
// the error; both read scratch (L1). A sub-block is bad, which declines it, when rounding to integers could leave
// ±2^22 or numbers come near the ends of the f32 range.

import { held, larger, magicAt, select, smaller, splat } from './lanes';

// Scratch of one thread, in bytes; users have theirs from searchEnd on.
export const valuesAt: usize = 0; // 32 × 8 transposed values
export const weightsAt: usize = 1024;
const trialAt: usize = 2048;
export const importanceAt: usize = 3072; // 32 × 8 transposed
/** Where the codes of the best fit came from: code = round(inverse·(x − origin)); 8 f32 each, with `keep`. */
export const inversesAt: usize = 4096;
export const originsAt: usize = 4128;
/** Lane masks of bad sub-blocks, with `keep`. */
export const badAt: usize = 4160;
export const searchEnd: usize = 4192;

/** Largest and smallest magnitudes that the kernels take. */
export const tooLarge: f32 = 1e9;
export const tooSmall: f32 = 1e-12;

/** Weights without importance: mean magnitude √(Σ x²/n) + |x| for n = 32, |x| for n = 16. */
export function ownWeights(s: usize, n: i32): void {
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
export function importanceWeights(s: usize, n: i32, sigma2: f32, sums: usize): void {
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
 * each). With `keep`: the grid of the best fit and the bad lanes go to scratch; without it, a fit of scale 0 is bad too,
 * because its codes stay those of the search. Returns false when a lane is bad.
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
  keep: bool,
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
  let badA = f32x4.lt(f32x4.sub(maxA, minA), tiny);
  let badB = f32x4.lt(f32x4.sub(maxB, minB), tiny);

  let inverseA = f32x4.div(splat(qmax), f32x4.sub(maxA, minA));
  let inverseB = f32x4.div(splat(qmax), f32x4.sub(maxB, minB));
  let scaleA = f32x4.div(splat(1), inverseA);
  let scaleB = f32x4.div(splat(1), inverseB);
  let bestA = zero;
  let bestB = zero;
  let keptA = inverseA;
  let keptB = inverseB;
  let originA = minA;
  let originB = minB;
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
    badA = v128.or(badA, v128.not(f32x4.lt(reachA, limit)));
    badB = v128.or(badB, v128.not(f32x4.lt(reachB, limit)));
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
    if (keep) {
      keptA = select(inverseA, keptA, takeA);
      keptB = select(inverseB, keptB, takeB);
      originA = select(minA, originA, takeA);
      originB = select(minB, originB, takeB);
    }
    scaleA = select(newScaleA, scaleA, takeA);
    scaleB = select(newScaleB, scaleB, takeB);
    minA = select(newMinA, minA, takeA);
    minB = select(newMinB, minB, takeB);
  }
  if (keep) {
    v128.store(s, v128.andnot(keptA, flatA), inversesAt);
    v128.store(s, v128.andnot(keptB, flatB), inversesAt + 16);
    v128.store(s, originA, originsAt);
    v128.store(s, originB, originsAt + 16);
    v128.store(s, badA, badAt);
    v128.store(s, badB, badAt + 16);
  } else {
    // A fit of scale 0 keeps the codes of its search.
    badA = v128.or(badA, v128.andnot(f32x4.eq(scaleA, zero), flatA));
    badB = v128.or(badB, v128.andnot(f32x4.eq(scaleB, zero), flatB));
  }
  v128.store(scales, v128.andnot(scaleA, flatA));
  v128.store(scales, v128.andnot(scaleB, flatB), 16);
  v128.store(offsets, f32x4.neg(select(flatMinA, minA, flatA)));
  v128.store(offsets, f32x4.neg(select(flatMinB, minB, flatB)), 16);
  return !v128.any_true(v128.or(badA, badB));
}

export function fitQ2(s: usize, scales: usize, offsets: usize): bool {
  return fitEight(s, 16, 3, -0.5, 0.1, 15, true, false, scales, offsets);
}
export function fitQ4(s: usize, scales: usize, offsets: usize): bool {
  return fitEight(s, 32, 15, -1, 0.1, 20, false, false, scales, offsets);
}
export function fitQ5(s: usize, scales: usize, offsets: usize): bool {
  return fitEight(s, 32, 31, -0.5, 0.1, 15, false, false, scales, offsets);
}
export function fitWeighted(s: usize, n: i32, qmax: f32, scales: usize, offsets: usize): bool {
  return fitEight(s, n, qmax, -0.9, 0.05, 36, false, false, scales, offsets);
}
/** As fitWeighted for 32 values, keeping what the codes of the search need. */
export function fitWeightedKept(s: usize, qmax: f32, scales: usize, offsets: usize): bool {
  return fitEight(s, 32, qmax, -0.9, 0.05, 36, false, true, scales, offsets);
}
