// Derivatives of elementary functions of one f32.
//
// Differences such as 1 − σ(x) and 1 − tanh²(x) lose all digits where the function saturates, so both factors come from
// e = e^−|x|: σ(|x|) = 1/(1+e), 1 − σ(|x|) = e/(1+e). Methods are those of the WASM kernels
// (src/backends/wasm/kernels/common/slopes.ts).

/** Needs mathSource. */
export const slopesSource = `
/* (σ(x), 1 − σ(x)) */
fn onOff(x: f32) -> vec2f {
  let e = expOf(-abs(x));
  let high = 1.0 / (1.0 + e);
  let low = e * high;
  return select(vec2f(low, high), vec2f(high, low), x > 0.0);
}
fn sigmoidSlope(x: f32) -> f32 { let s = onOff(x); return s.x * s.y; }
/* 1 − tanh²(x) = 4 σ(2x) (1 − σ(2x)) */
fn tanhSlope(x: f32) -> f32 { return 4.0 * sigmoidSlope(x + x); }
/* σ(x) (1 + x (1 − σ(x))) */
fn siluSlope(x: f32) -> f32 { let s = onOff(x); return s.x * (1.0 + x * s.y); }
/* Φ(x) + x φ(x), φ the normal density */
fn geluSlope(x: f32) -> f32 { return normalOf(x) + x * (expOf(x * x * -0.5) * 0.3989422804014327); }
/* With v = 2√(2/π) (x + 0.044715 x³): σ(v) + x σ(v) (1 − σ(v)) v′ */
fn geluTanhSlope(argument: f32) -> f32 {
  /* Beyond 10⁶ the powers would overflow to ∞ · 0. */
  let x = select(clamp(argument, -1e6, 1e6), argument, isNan(argument));
  let square = x * x;
  let s = onOff(1.5957691216057308 * (x + 0.044715 * (square * x)));
  return s.x + x * (s.x * s.y * (1.5957691216057308 * (1.0 + 0.134145 * square)));
}
`;
