// Exponentials for long runs of numbers: the steps and constants of exp4 (math.ts).

import { e3, e4, e5, e6, e7, expHigh, expLow, half, ln2High, ln2Low, log2e, one, whole, k } from './math';

// @ts-ignore: decorator
@inline
function horner(p: v128, r: v128, c: v128): v128 {
  return f32x4.add(f32x4.mul(p, r), c);
}

// @ts-ignore: decorator
@inline
function remainder(c: v128, n: v128, high: v128, low: v128): v128 {
  return f32x4.sub(f32x4.sub(c, f32x4.mul(n, high)), f32x4.mul(n, low));
}

/** p · 2^i in two steps; `shifted` holds i + whole. */
// @ts-ignore: decorator
@inline
function timesPower(p: v128, shifted: v128, origin: v128, unit: v128): v128 {
  const i = i32x4.sub(shifted, origin);
  const first = i32x4.shr_s(i, 1);
  const low = i32x4.add(i32x4.shl(first, 23), unit);
  const high = i32x4.add(i32x4.shl(i32x4.sub(i, first), 23), unit);
  return f32x4.mul(f32x4.mul(p, low), high);
}

/** exp4 of four vectors, to sixteen floats at `to`: the same bits, constants loaded once. */
// @ts-ignore: decorator
@inline
export function exp16(x0: v128, x1: v128, x2: v128, x3: v128, to: usize): void {
  const least = k(expLow);
  const most = k(expHigh);
  const d0 = f32x4.pmin(f32x4.pmax(x0, least), most);
  const d1 = f32x4.pmin(f32x4.pmax(x1, least), most);
  const d2 = f32x4.pmin(f32x4.pmax(x2, least), most);
  const d3 = f32x4.pmin(f32x4.pmax(x3, least), most);
  const slope = k(log2e);
  const origin = k(whole);
  const s0 = horner(d0, slope, origin);
  const s1 = horner(d1, slope, origin);
  const s2 = horner(d2, slope, origin);
  const s3 = horner(d3, slope, origin);
  const h = k(ln2High);
  const l = k(ln2Low);
  const r0 = remainder(d0, f32x4.sub(s0, origin), h, l);
  const r1 = remainder(d1, f32x4.sub(s1, origin), h, l);
  const r2 = remainder(d2, f32x4.sub(s2, origin), h, l);
  const r3 = remainder(d3, f32x4.sub(s3, origin), h, l);
  const c7 = k(e7);
  const c6 = k(e6);
  const c5 = k(e5);
  const c4 = k(e4);
  const c3 = k(e3);
  const c2 = k(half);
  const unit = k(one);
  const p0 = horner(horner(horner(horner(horner(r0, c7, c6), r0, c5), r0, c4), r0, c3), r0, c2);
  const p1 = horner(horner(horner(horner(horner(r1, c7, c6), r1, c5), r1, c4), r1, c3), r1, c2);
  const p2 = horner(horner(horner(horner(horner(r2, c7, c6), r2, c5), r2, c4), r2, c3), r2, c2);
  const p3 = horner(horner(horner(horner(horner(r3, c7, c6), r3, c5), r3, c4), r3, c3), r3, c2);
  const y0 = f32x4.add(horner(p0, f32x4.mul(r0, r0), r0), unit);
  const y1 = f32x4.add(horner(p1, f32x4.mul(r1, r1), r1), unit);
  const y2 = f32x4.add(horner(p2, f32x4.mul(r2, r2), r2), unit);
  const y3 = f32x4.add(horner(p3, f32x4.mul(r3, r3), r3), unit);
  v128.store(to, timesPower(y0, s0, origin, unit));
  v128.store(to, timesPower(y1, s1, origin, unit), 16);
  v128.store(to, timesPower(y2, s2, origin, unit), 32);
  v128.store(to, timesPower(y3, s3, origin, unit), 48);
}

const weightLow: usize = memory.data<f32>([-87]);

/**
 * e^x for x ≤ 0, 0 below e^-87 and NaN for NaN: weights of a softmax. Multiplies and adds are fused, as in the products
 * around it, so bits are those of the host.
 */
// @ts-ignore: decorator
@inline
export function weight4(x: v128): v128 {
  const low = k(weightLow);
  const c = f32x4.pmax(x, low);
  const shifted = f32x4.relaxed_madd(c, k(log2e), k(whole));
  const n = f32x4.sub(shifted, k(whole));
  const r = f32x4.relaxed_nmadd(n, k(ln2Low), f32x4.relaxed_nmadd(n, k(ln2High), c));
  let p = f32x4.relaxed_madd(r, k(e7), k(e6));
  p = f32x4.relaxed_madd(p, r, k(e5));
  p = f32x4.relaxed_madd(p, r, k(e4));
  p = f32x4.relaxed_madd(p, r, k(e3));
  p = f32x4.relaxed_madd(p, r, k(half));
  p = f32x4.add(f32x4.relaxed_madd(p, f32x4.mul(r, r), r), k(one));
  const power = i32x4.add(i32x4.shl(shifted, 23), k(one));
  return v128.andnot(f32x4.mul(p, power), f32x4.lt(x, low));
}
