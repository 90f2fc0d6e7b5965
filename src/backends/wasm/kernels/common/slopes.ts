// Derivatives of elementary functions on four f32 at once.
//
// Differences such as 1 − σ(x) and 1 − tanh²(x) lose all digits where the function saturates, so both factors come from
// e = e^−|x|: σ(|x|) = 1/(1+e), 1 − σ(|x|) = e/(1+e).

import { exp4, normal4 } from './math';

// @ts-ignore: decorator
@inline
function k(address: usize): v128 {
  return v128.load32_splat(address);
}

const one: usize = memory.data<f32>([1]);
const four: usize = memory.data<f32>([4]);
const minusHalf: usize = memory.data<f32>([-0.5]);
const zero: usize = memory.data<f32>([0]);

/** e^−|x| */
// @ts-ignore: decorator
@inline
export function decay4(x: v128): v128 {
  return exp4(f32x4.neg(f32x4.abs(x)));
}

/** σ(x) (1 − σ(x)) */
// @ts-ignore: decorator
@inline
export function sigmoidSlope4(x: v128): v128 {
  const e = decay4(x);
  const d = f32x4.div(k(one), f32x4.add(k(one), e));
  return f32x4.mul(f32x4.mul(e, d), d);
}

/** 1 − tanh²(x) = 4 σ(2x) (1 − σ(2x)) */
// @ts-ignore: decorator
@inline
export function tanhSlope4(x: v128): v128 {
  return f32x4.mul(k(four), sigmoidSlope4(f32x4.add(x, x)));
}

/** The derivative of silu, σ(x) (1 + x (1 − σ(x))), from σ(x) and 1 − σ(x). */
// @ts-ignore: decorator
@inline
export function siluSlope(x: v128, on: v128, off: v128): v128 {
  return f32x4.mul(on, f32x4.add(k(one), f32x4.mul(x, off)));
}

// @ts-ignore: decorator
@inline
export function siluSlope4(x: v128): v128 {
  const e = decay4(x);
  const d = f32x4.div(k(one), f32x4.add(k(one), e));
  const rest = f32x4.mul(e, d);
  const positive = f32x4.gt(x, k(zero));
  return siluSlope(x, v128.bitselect(d, rest, positive), v128.bitselect(rest, d, positive));
}

const rootTwoPi: usize = memory.data<f32>([0.3989422804014327]);

/** Φ(x) + x φ(x), φ the normal density */
// @ts-ignore: decorator
@inline
export function geluSlope4(x: v128): v128 {
  const density = f32x4.mul(exp4(f32x4.mul(f32x4.mul(x, x), k(minusHalf))), k(rootTwoPi));
  return f32x4.add(normal4(x), f32x4.mul(x, density));
}

const cubic: usize = memory.data<f32>([0.044715]);
const cubic3: usize = memory.data<f32>([0.134145]);
const twoRoot: usize = memory.data<f32>([1.5957691216057308]);
const far: usize = memory.data<f32>([1e6]);
const minusFar: usize = memory.data<f32>([-1e6]);

/** With v = 2√(2/π) (x + 0.044715 x³): σ(v) + x σ(v) (1 − σ(v)) v′ */
// @ts-ignore: decorator
@inline
export function geluTanhSlope4(argument: v128): v128 {
  // Beyond 10⁶ the powers would overflow to ∞ · 0; pmax and pmin keep a NaN in their first operand.
  const x = f32x4.pmin(f32x4.pmax(argument, k(minusFar)), k(far));
  const square = f32x4.mul(x, x);
  const v = f32x4.mul(k(twoRoot), f32x4.add(x, f32x4.mul(k(cubic), f32x4.mul(square, x))));
  const e = decay4(v);
  const d = f32x4.div(k(one), f32x4.add(k(one), e));
  const rest = f32x4.mul(e, d);
  const on = v128.bitselect(d, rest, f32x4.gt(v, k(zero)));
  const inner = f32x4.mul(k(twoRoot), f32x4.add(k(one), f32x4.mul(k(cubic3), square)));
  return f32x4.add(on, f32x4.mul(x, f32x4.mul(f32x4.mul(d, rest), inner)));
}
