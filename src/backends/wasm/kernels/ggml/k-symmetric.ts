// Q6_K: sixteen sub-blocks of 16, eight at a time in lanes; definition in src/formats/ggml/k-symmetric.ts.
//
// Per candidate inverse scale one pass over transposed values: code, Σ w·x·l and Σ w·l². Declined like the affine
// types: numbers near the ends of the range, or a sub-block whose stored scale is zero though its search found one.

import { halfBits, halfValue, held, larger, magicAt, nearestInt, select, smaller, splat, thirtyOneAt, thirtyTwoAt, transposeEight } from './lanes';

const valuesAt: usize = 0; // 16 × 8 transposed values
const weightsAt: usize = 512;
const productsAt: usize = 1024; // w·x
const scalesAt: usize = 1536; // 16 f32
const magnitudesAt: usize = 1600; // 16 f32
const sumsAt: usize = 1664; // 4 vectors
const codesAt: usize = 1728; // 256 bytes

/**
 * Two candidates on four sub-blocks (lanes at s): Σ w·x·l and Σ w·l² of each, to `sums`. Sharing the loads matters:
 * a pass is bound by the number of instructions. `low`, `high`: which clamps are needed; without `pair` only the
 * first candidate counts.
 */
// @ts-ignore: decorator
@inline
function pass(s: usize, sums: usize, inverse0: v128, inverse1: v128, low: bool, high: bool, pair: bool): void {
  const m = held(magicAt);
  const top = f32x4.add(m, held(thirtyOneAt));
  const bottom = f32x4.sub(m, held(thirtyTwoAt));
  let xl0 = splat(0);
  let xl1 = splat(0);
  let ll0 = splat(0);
  let ll1 = splat(0);
  for (let i = s, end = s + 512; i < end; i += 32) {
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
function shiftOf(k: i32): i32 {
  return k == 0 ? 0 : k <= 9 ? k - 10 : k - 9;
}

/** The first value of largest magnitude in each lane, for lanes where both signs reach it. */
function firstMaximum(s: usize): v128 {
  let amax = splat(0);
  let most = amax;
  for (let i = s, end = s + 512; i < end; i += 32) {
    const x = v128.load(i);
    const a = f32x4.abs(x);
    most = select(x, most, f32x4.gt(a, amax));
    amax = larger(amax, a);
  }
  return most;
}

/**
 * Scales of four transposed sub-blocks (lanes at s); weights are in scratch when `weighted`, else x². 0 for one that
 * counts as zero; their largest magnitudes go to `magnitudes`. False when another one has scale 0 (it would keep the codes of its search) or values are too large.
 */
function fitFour(s: usize, weighted: bool, sums: usize, scales: usize, magnitudes: usize): bool {
  const zero = splat(0);
  let highest = v128.load(s);
  let lowest = highest;
  for (let i = s, end = s + 512; i < end; i += 32) {
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
  if (v128.any_true(f32x4.eq(highest, below))) most = firstMaximum(s);
  v128.store(magnitudes, amax);
  if (v128.any_true(f32x4.ge(amax, splat(1e6)))) return false;
  const none = f32x4.lt(amax, splat(1e-15));
  most = select(splat(1), most, none);
  // The largest value of the other sign: only it can pass the upper code.
  const opposite = select(lowest, highest, f32x4.gt(most, zero));
  let scale = zero;
  let best = zero;
  for (let k = 0; k <= 18; k += 2) {
    const shift0 = shiftOf(k);
    const shift1 = shiftOf(k + 1);
    const inverse0 = f32x4.div(splat(-(32 + <f32>0.1 * <f32>shift0)), most);
    const inverse1 = f32x4.div(splat(-(32 + <f32>0.1 * <f32>shift1)), most);
    // Clamping costs a fifth of a pass; most candidates need it on no side or on one.
    const reach = f32x4.pmax(f32x4.mul(inverse0, opposite), f32x4.mul(inverse1, opposite));
    const above = v128.any_true(f32x4.gt(reach, splat(31.49)));
    if (k == 18) pass(s, sums, inverse0, inverse1, true, true, false);
    else if (shift1 <= 4) {
      if (above) pass(s, sums, inverse0, inverse1, false, true, true);
      else pass(s, sums, inverse0, inverse1, false, false, true);
    } else if (above) pass(s, sums, inverse0, inverse1, true, true, true);
    else pass(s, sums, inverse0, inverse1, true, false, true);
    const results: usize = k == 18 ? 32 : 64;
    for (let c: usize = 0; c < results; c += 32) {
      const xl = v128.load(sums + c);
      const ll = v128.load(sums + c, 16);
      let take = v128.and(f32x4.gt(ll, zero), f32x4.gt(f32x4.mul(xl, xl), f32x4.mul(best, ll)));
      if (k == 0 && c == 0) take = f32x4.ne(ll, zero);
      scale = select(f32x4.div(xl, ll), scale, take);
      best = select(f32x4.mul(scale, xl), best, take);
    }
  }
  v128.store(scales, v128.andnot(scale, none));
  return !v128.any_true(v128.andnot(f32x4.eq(scale, zero), none));
}

/** Codes under the stored scales. */
function requantize(x: usize, s: usize): void {
  const m = held(magicAt);
  const top = f32x4.add(m, held(thirtyOneAt));
  const bottom = f32x4.sub(m, held(thirtyTwoAt));
  const base = i32x4.splat(0x4b400000 - 32);
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

function encode(x: usize, importance: usize, out: usize, s: usize): bool {
  for (let g: usize = 0; g < 2; g++) {
    transposeEight(x + 512 * g, 64, 8, 16, s + valuesAt);
    if (importance != 0) transposeEight(importance + 512 * g, 64, 8, 16, s + weightsAt);
    if (!fitFour(s, importance != 0, s + sumsAt, s + scalesAt + 32 * g, s + magnitudesAt + 32 * g)) return false;
    if (!fitFour(s + 16, importance != 0, s + sumsAt, s + scalesAt + 32 * g + 16, s + magnitudesAt + 32 * g + 16)) return false;
  }
  let magnitude: f32 = 0;
  let signed: f32 = 0;
  for (let j: usize = 0; j < 16; j++) {
    const scale = load<f32>(s + scalesAt + 4 * j);
    if (abs(scale) > magnitude) {
      magnitude = abs(scale);
      signed = scale;
    }
  }
  if (!(magnitude >= 1e-14)) return false;
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
  requantize(x, s);
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
