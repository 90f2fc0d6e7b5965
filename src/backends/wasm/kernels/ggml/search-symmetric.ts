// Search for the scale of signed codes −m … m−1, four sub-blocks in lanes (Q6_K, Q3_K; Q4_0 and Q5_0 under importance);
// definition: fitSymmetric in src/formats/ggml/search-symmetric.ts.
//
// Per candidate inverse scale one pass over transposed values (element i of eight sub-blocks at 32·i): code, Σ w·x·l
// and Σ w·l². Scratch is laid out for 32 values; `searchEnd` is where a caller's own begins.

import { held, larger, magicAt, select, smaller, splat } from './lanes';

export const valuesAt: usize = 0; // 32 × 8 transposed values
export const weightsAt: usize = 1024;
const productsAt: usize = 2048; // w·x
const sumsAt: usize = 3072; // 4 vectors
export const scalesAt: usize = 3136; // 16 f32
export const magnitudesAt: usize = 3200; // 16 f32
/** Where the codes of the best fit came from: code = round(inverse·x); 8 f32. */
export const inversesAt: usize = 3264;
export const searchEnd: usize = 3296;

/** Largest magnitude that the search takes. */
const tooLarge: f32 = 1e6;
/** Below this a sub-block counts as zero. */
const zeroBelow: f32 = 1e-15;

/**
 * Two candidates on four sub-blocks of n values (lanes at s): Σ w·x·l and Σ w·l² of each, to `sums`. Sharing the loads
 * matters: a pass is bound by the number of instructions. `low`, `high`: which clamps are needed; without `pair` only
 * the first candidate counts.
 */
// @ts-ignore: decorator
@inline
function pass(s: usize, n: usize, half: f32, sums: usize, inverse0: v128, inverse1: v128, low: bool, high: bool, pair: bool): void {
  const m = held(magicAt);
  const top = f32x4.add(m, splat(half - 1));
  const bottom = f32x4.sub(m, splat(half));
  let xl0 = splat(0);
  let xl1 = splat(0);
  let ll0 = splat(0);
  let ll1 = splat(0);
  for (let i = s, end = s + (n << 5); i < end; i += 32) {
    const x = v128.load(i);
    const wx = v128.load(i, productsAt);
    const w = v128.load(i, weightsAt);
    let l = f32x4.add(f32x4.mul(inverse0, x), m);
    if (low) l = larger(bottom, l);
    if (high) l = smaller(top, l);
    l = f32x4.sub(l, m);
    xl0 = f32x4.add(xl0, f32x4.mul(wx, l));
    ll0 = f32x4.add(ll0, f32x4.mul(f32x4.mul(w, l), l));
    if (pair) {
      l = f32x4.add(f32x4.mul(inverse1, x), m);
      if (low) l = larger(bottom, l);
      if (high) l = smaller(top, l);
      l = f32x4.sub(l, m);
      xl1 = f32x4.add(xl1, f32x4.mul(wx, l));
      ll1 = f32x4.add(ll1, f32x4.mul(f32x4.mul(w, l), l));
    }
  }
  v128.store(sums, xl0);
  v128.store(sums, ll0, 16);
  v128.store(sums, xl1, 32);
  v128.store(sums, ll1, 48);
}

/** Candidate order: the plain grid, then −9 … 9 without 0. */
// @ts-ignore: decorator
@inline
export function shiftOf(k: i32): i32 {
  return k == 0 ? 0 : k <= 9 ? k - 10 : k - 9;
}

/** The first value of largest magnitude in each lane, for lanes where both signs reach it. */
function firstMaximum(s: usize, n: usize): v128 {
  let amax = splat(0);
  let most = amax;
  for (let i = s, end = s + (n << 5); i < end; i += 32) {
    const x = v128.load(i);
    const a = f32x4.abs(x);
    most = select(x, most, f32x4.gt(a, amax));
    amax = larger(amax, a);
  }
  return most;
}

/**
 * Scales of four transposed sub-blocks of n values (lanes at s), codes −half … half−1; weights are in scratch when
 * `weighted`, else x². 0 for one that counts as zero; their largest magnitudes go to `magnitudes`, with `keep` the
 * inverse scales of the best fits to `inverses`. False when a value is too large, or without `keep` when a sub-block
 * that does not count as zero has scale 0: its codes stay those of the search.
 */
// @ts-ignore: decorator
@inline
function fitFour(
  s: usize,
  n: usize,
  half: f32,
  weighted: bool,
  keep: bool,
  sums: usize,
  scales: usize,
  magnitudes: usize,
  inverses: usize,
): bool {
  const zero = splat(0);
  let highest = v128.load(s);
  let lowest = highest;
  for (let i = s, end = s + (n << 5); i < end; i += 32) {
    const x = v128.load(i);
    highest = larger(highest, x);
    lowest = smaller(lowest, x);
    const w = weighted ? v128.load(i, weightsAt) : f32x4.mul(x, x);
    v128.store(i, w, weightsAt);
    v128.store(i, f32x4.mul(w, x), productsAt);
  }
  const below = f32x4.neg(lowest);
  const amax = larger(highest, below);
  let most = select(highest, lowest, f32x4.gt(highest, below));
  if (v128.any_true(f32x4.eq(highest, below))) most = firstMaximum(s, n);
  v128.store(magnitudes, amax);
  if (!keep && v128.any_true(f32x4.ge(amax, splat(tooLarge)))) return false;
  const none = f32x4.lt(amax, splat(zeroBelow));
  most = select(splat(1), most, none);
  // The largest value of the other sign: only it can pass the upper code.
  const opposite = select(lowest, highest, f32x4.gt(most, zero));
  let scale = zero;
  let best = zero;
  let kept = zero;
  for (let k = 0; k <= 18; k += 2) {
    const shift0 = shiftOf(k);
    const shift1 = shiftOf(k + 1);
    const inverse0 = f32x4.div(splat(-(half + <f32>0.1 * <f32>shift0)), most);
    const inverse1 = f32x4.div(splat(-(half + <f32>0.1 * <f32>shift1)), most);
    // Clamping costs a fifth of a pass; most candidates need it on no side or on one.
    const reach = f32x4.pmax(f32x4.mul(inverse0, opposite), f32x4.mul(inverse1, opposite));
    const above = v128.any_true(f32x4.gt(reach, splat(half - <f32>0.51)));
    if (k == 18) pass(s, n, half, sums, inverse0, inverse1, true, true, false);
    else if (shift1 <= 4) {
      if (above) pass(s, n, half, sums, inverse0, inverse1, false, true, true);
      else pass(s, n, half, sums, inverse0, inverse1, false, false, true);
    } else if (above) pass(s, n, half, sums, inverse0, inverse1, true, true, true);
    else pass(s, n, half, sums, inverse0, inverse1, true, false, true);
    const results: usize = k == 18 ? 32 : 64;
    if (keep && k == 0) kept = inverse0;
    for (let c: usize = 0; c < results; c += 32) {
      const xl = v128.load(sums + c);
      const ll = v128.load(sums + c, 16);
      let take = v128.and(f32x4.gt(ll, zero), f32x4.gt(f32x4.mul(xl, xl), f32x4.mul(best, ll)));
      if (k == 0 && c == 0) take = f32x4.ne(ll, zero);
      scale = select(f32x4.div(xl, ll), scale, take);
      best = select(f32x4.mul(scale, xl), best, take);
      if (keep) kept = select(c == 0 ? inverse0 : inverse1, kept, take);
    }
  }
  v128.store(scales, v128.andnot(scale, none));
  if (keep) {
    v128.store(inverses, v128.andnot(kept, none));
    return true;
  }
  return !v128.any_true(v128.andnot(f32x4.eq(scale, zero), none));
}

/** Scales g … g+7 of Q6_K, transposed values and weights in scratch; false when the super-block is declined. */
export function fitQ6(s: usize, weighted: bool, g: usize): bool {
  return fitQ6Half(s, weighted, s + 4 * g, s) && fitQ6Half(s + 16, weighted, s + 4 * g + 16, s);
}
function fitQ6Half(lanes: usize, weighted: bool, to: usize, s: usize): bool {
  return fitFour(lanes, 16, 32, weighted, false, s + sumsAt, to + scalesAt, to + magnitudesAt, 0);
}

/** The same for Q3_K under importance. */
export function fitQ3(s: usize, g: usize): bool {
  return fitQ3Half(s, s + 4 * g, s) && fitQ3Half(s + 16, s + 4 * g + 16, s);
}
function fitQ3Half(lanes: usize, to: usize, s: usize): bool {
  return fitFour(lanes, 16, 4, true, false, s + sumsAt, to + scalesAt, to + magnitudesAt, 0);
}

/** Scales and inverse scales of eight blocks of Q4_0 (bits 4) or Q5_0 under importance; the caller checks ranges. */
export function fitLegacy(s: usize, bits: i32): void {
  for (let at: usize = 0; at < 32; at += 16) {
    if (bits == 4) fitQ40(s + at, s + at, s);
    else fitQ50(s + at, s + at, s);
  }
}
function fitQ40(lanes: usize, to: usize, s: usize): void {
  fitFour(lanes, 32, 8, true, true, s + sumsAt, to + scalesAt, to + magnitudesAt, to + inversesAt);
}
function fitQ50(lanes: usize, to: usize, s: usize): void {
  fitFour(lanes, 32, 16, true, true, s + sumsAt, to + scalesAt, to + magnitudesAt, to + inversesAt);
}
