// Elementary functions on four f32 at once. Plain multiplies and adds only (no relaxed ones), so every CPU gives the
// same bits. Coefficients: interpolation in Chebyshev nodes, computed with 40 digits for these intervals.
//
//   exp   x = n ln 2 + r, |r| ≤ ln 2 / 2, e^r = 1 + r + r² P5(r); times 2^n in two exact steps. Within 1 ulp
//         (measured 0.96 on 3·10⁶ points), 0 below e^-104, infinity above the largest float, NaN stays.
//   log   x = 2^n m, ln x = n ln 2 + 2 (s + s³/3 + … + s⁹/9), s = (m − 1) / (m + 1), the series of 2 artanh s. Within
//         1e-7 · max(1, |ln x|).
//   tanh  |x| < 0.625: x + x³ P5(x²); else 1 − 2 / (e^2|x| + 1). Within 2 ulp.
//   gelu  x Φ(x), Φ from erf(z), z = x / √2. |z| ≤ 1: z P6(z²), relative error 1.8e-7. Beyond: erfc(|z|) =
//         e^(−x²/2) P8(1 / (1 + 0.7 |z|)), relative error 2e-6: x² is formed in two parts, since the exponential would
//         magnify its rounding.
//
// Constants are loaded from memory: V8 builds a vector constant from immediates wherever it is used, which costs three
// instructions and made these functions half as fast.

// @ts-ignore: decorator
@inline
export function k(address: usize): v128 {
  return v128.load32_splat(address);
}

/** a · b + c, rounded twice. */
// @ts-ignore: decorator
@inline
function madd(a: v128, b: v128, c: usize): v128 {
  return f32x4.add(f32x4.mul(a, b), k(c));
}

export const one: usize = memory.data<f32>([1]);
const two: usize = memory.data<f32>([2]);
export const half: usize = memory.data<f32>([0.5]);
const minusHalf: usize = memory.data<f32>([-0.5]);
const signBit: usize = memory.data<u32>([0x80000000]);

export const expLow: usize = memory.data<f32>([-104]);
export const expHigh: usize = memory.data<f32>([89]);
export const log2e: usize = memory.data<f32>([1.44269502]);
/** 1.5 · 2^23: adding it rounds to a whole number, which then stands in the low bits. */
export const whole: usize = memory.data<f32>([12582912]);
/** ln 2 in two parts: the first has 10 bits, so n · part is exact. */
export const ln2High: usize = memory.data<f32>([0.693359375]);
export const ln2Low: usize = memory.data<f32>([-0.00021219444170128554]);
export const e7: usize = memory.data<f32>([0.00019891031843144447]);
export const e6: usize = memory.data<f32>([0.0013933687005192041]);
export const e5: usize = memory.data<f32>([0.00833331048488617]);
export const e4: usize = memory.data<f32>([0.041666463017463684]);
export const e3: usize = memory.data<f32>([0.1666666716337204]);

// @ts-ignore: decorator
@inline
export function exp4(x: v128): v128 {
  // pmax and pmin keep a NaN in their first operand.
  const c = f32x4.pmin(f32x4.pmax(x, k(expLow)), k(expHigh));
  const shifted = madd(c, k(log2e), whole);
  const n = f32x4.sub(shifted, k(whole));
  let r = f32x4.sub(c, f32x4.mul(n, k(ln2High)));
  r = f32x4.sub(r, f32x4.mul(n, k(ln2Low)));
  let p = madd(r, k(e7), e6);
  p = madd(p, r, e5);
  p = madd(p, r, e4);
  p = madd(p, r, e3);
  p = madd(p, r, half);
  p = f32x4.add(f32x4.add(f32x4.mul(p, f32x4.mul(r, r)), r), k(one));
  const i = i32x4.sub(shifted, k(whole));
  const first = i32x4.shr_s(i, 1);
  // 2^m is the float 1 with m added to its exponent field.
  const low = i32x4.add(i32x4.shl(first, 23), k(one));
  const high = i32x4.add(i32x4.shl(i32x4.sub(i, first), 23), k(one));
  return f32x4.mul(f32x4.mul(p, low), high);
}

const smallestNormal: usize = memory.data<f32>([1.1754943508222875e-38]);
const rootHalfBits: usize = memory.data<u32>([0x3f3504f3]);
const mantissaBits: usize = memory.data<u32>([0x007fffff]);
const ln2: usize = memory.data<f32>([0.6931471805599453]);
const l9: usize = memory.data<f32>([0.2222222222222222]);
const l7: usize = memory.data<f32>([0.2857142857142857]);
const l5: usize = memory.data<f32>([0.4]);
const l3: usize = memory.data<f32>([0.6666666666666666]);

/** ln x of positive numbers; below the normal range that of its least number. */
// @ts-ignore: decorator
@inline
export function log4(x: v128): v128 {
  const c = f32x4.pmax(x, k(smallestNormal));
  // x = 2^n m with √½ ≤ m < √2
  const offset = i32x4.sub(c, k(rootHalfBits));
  const n = f32x4.convert_i32x4_s(i32x4.shr_s(offset, 23));
  const m = i32x4.add(v128.and(offset, k(mantissaBits)), k(rootHalfBits));
  const s = f32x4.div(f32x4.sub(m, k(one)), f32x4.add(m, k(one)));
  const z = f32x4.mul(s, s);
  let p = madd(z, k(l9), l7);
  p = madd(p, z, l5);
  p = madd(p, z, l3);
  const r = f32x4.add(f32x4.add(s, s), f32x4.mul(s, f32x4.mul(z, p)));
  return f32x4.add(f32x4.mul(n, k(ln2)), r);
}

/** 1 / (1 + e^−x) */
// @ts-ignore: decorator
@inline
export function sigmoid4(x: v128): v128 {
  return f32x4.div(k(one), f32x4.add(k(one), exp4(f32x4.neg(x))));
}

/** x / (1 + e^−x) */
// @ts-ignore: decorator
@inline
export function silu4(x: v128): v128 {
  return f32x4.div(x, f32x4.add(k(one), exp4(f32x4.neg(x))));
}

/** x / (1 + e) with e = e^−x */
// @ts-ignore: decorator
@inline
export function siluOf(x: v128, e: v128): v128 {
  return f32x4.div(x, f32x4.add(k(one), e));
}

const t5: usize = memory.data<f32>([0.002292744815349579]);
const t4: usize = memory.data<f32>([-0.008343945257365704]);
const t3: usize = memory.data<f32>([0.02176891826093197]);
const t2: usize = memory.data<f32>([-0.053959257900714874]);
const t1: usize = memory.data<f32>([0.13333304226398468]);
const t0: usize = memory.data<f32>([-0.3333333432674408]);
const tanhSmall: usize = memory.data<f32>([0.625]);

// @ts-ignore: decorator
@inline
export function tanh4(x: v128): v128 {
  const z = f32x4.mul(x, x);
  let p = madd(z, k(t5), t4);
  p = madd(p, z, t3);
  p = madd(p, z, t2);
  p = madd(p, z, t1);
  p = madd(p, z, t0);
  const small = f32x4.add(x, f32x4.mul(x, f32x4.mul(z, p)));
  const magnitude = f32x4.abs(x);
  const e = exp4(f32x4.add(magnitude, magnitude));
  const large = f32x4.sub(k(one), f32x4.div(k(two), f32x4.add(e, k(one))));
  const signed = v128.or(large, v128.and(x, k(signBit)));
  return v128.bitselect(small, signed, f32x4.lt(magnitude, k(tanhSmall)));
}

const geluLast: usize = memory.data<f32>([19]);
const rootHalf: usize = memory.data<f32>([0.70710678118654752]);
const upper12: usize = memory.data<u32>([0xfffff000]);
const f6: usize = memory.data<f32>([7.875874871388078e-5]);
const f5: usize = memory.data<f32>([-0.000801686430349946]);
const f4: usize = memory.data<f32>([0.005189087241888046]);
const f3: usize = memory.data<f32>([-0.02685421146452427]);
const f2: usize = memory.data<f32>([0.11283594369888306]);
const f1: usize = memory.data<f32>([-0.3761262595653534]);
const f0: usize = memory.data<f32>([1.1283791065216064]);
const sevenTenths: usize = memory.data<f32>([0.7]);
const uScale: usize = memory.data<f32>([3.475558042526245]);
const uShift: usize = memory.data<f32>([-1.3325892686843872]);
const c8: usize = memory.data<f32>([-1.05209146568086e-5]);
const c7: usize = memory.data<f32>([-2.6076281756104436e-6]);
const c6: usize = memory.data<f32>([0.00014928969928646475]);
const c5: usize = memory.data<f32>([-0.00013895903248339891]);
const c4: usize = memory.data<f32>([-0.0021108968649059534]);
const c3: usize = memory.data<f32>([0.0031245481222867966]);
const c2: usize = memory.data<f32>([0.05880577117204666]);
const c1: usize = memory.data<f32>([0.23914313316345215]);
const c0: usize = memory.data<f32>([0.22697056829929352]);

/** Φ(x) = erfc(−x / √2) / 2, the normal distribution function. */
// @ts-ignore: decorator
@inline
export function normal4(x: v128): v128 {
  const a = f32x4.pmin(f32x4.abs(x), k(geluLast));
  const t = f32x4.mul(a, k(rootHalf));
  const z = f32x4.mul(x, k(rootHalf));
  const w = f32x4.mul(z, z);
  let e = madd(w, k(f6), f5);
  e = madd(e, w, f4);
  e = madd(e, w, f3);
  e = madd(e, w, f2);
  e = madd(e, w, f1);
  e = madd(e, w, f0);
  const near = f32x4.mul(k(half), f32x4.add(k(one), f32x4.mul(z, e)));

  const s = f32x4.div(k(one), madd(t, k(sevenTenths), one));
  const u = madd(s, k(uScale), uShift);
  let q = madd(u, k(c8), c7);
  q = madd(q, u, c6);
  q = madd(q, u, c5);
  q = madd(q, u, c4);
  q = madd(q, u, c3);
  q = madd(q, u, c2);
  q = madd(q, u, c1);
  q = madd(q, u, c0);
  // −t² = −x²/2 = −h²/2 − (a − h)(a + h)/2 with h the upper 12 bits of a = |x|.
  const h = v128.and(a, k(upper12));
  const rest = f32x4.mul(f32x4.mul(f32x4.sub(a, h), f32x4.add(a, h)), k(minusHalf));
  const decay = f32x4.mul(exp4(f32x4.mul(f32x4.mul(h, h), k(minusHalf))), exp4(rest));
  const tail = f32x4.mul(k(half), f32x4.mul(decay, q));
  const far = v128.bitselect(f32x4.sub(k(one), tail), tail, f32x4.gt(x, i32x4.splat(0)));
  return v128.bitselect(near, far, f32x4.le(t, k(one)));
}

/** x · Φ(x) */
// @ts-ignore: decorator
@inline
export function gelu4(x: v128): v128 {
  return f32x4.mul(x, normal4(x));
}

const cubic: usize = memory.data<f32>([0.044715]);
const minusTwoRoot: usize = memory.data<f32>([-1.5957691216057308]);

/** x/2 · (1 + tanh u) = x / (1 + e^−2u), u = √(2/π) (x + 0.044715 x³) */
// @ts-ignore: decorator
@inline
export function geluTanh4(x: v128): v128 {
  const cube = f32x4.mul(f32x4.mul(x, x), x);
  const u = f32x4.mul(k(minusTwoRoot), f32x4.add(x, f32x4.mul(k(cubic), cube)));
  return f32x4.div(x, f32x4.add(k(one), exp4(u)));
}
