// The exact decision of the reference codec, for lanes whose quotient is within float32 error of a midpoint or whose
// step has no usable inverse: a candidate code from a division, then |x| compared with fl(step × midpoint) on both sides
// of it; equal goes to the even code. Called for few values, so these are functions and not inlined.

/** Midpoint above magnitude code `code` of a minifloat. */
// @ts-ignore: decorator
@inline
export function midpoint(code: i32, mantissaBits: i32, bias: i32): f32 {
  const field = code >> mantissaBits;
  const fraction = code & ((1 << mantissaBits) - 1);
  const integer = field == 0 ? fraction : fraction + (1 << mantissaBits);
  return (f32(integer) + 0.5) * reinterpret<f32>((max(field, 1) - bias - mantissaBits + 127) << 23);
}

/** Values of magnitude codes. */
export function elementValues(codes: v128, mantissaBits: i32, bias: i32): v128 {
  const one = i32x4.splat(1);
  const field = i32x4.shr_u(codes, mantissaBits);
  const fraction = v128.and(codes, i32x4.splat((1 << mantissaBits) - 1));
  const hidden = v128.and(i32x4.ge_s(field, one), i32x4.splat(1 << mantissaBits));
  const exponent = i32x4.add(i32x4.max_s(field, one), i32x4.splat(127 - bias - mantissaBits));
  return f32x4.mul(f32x4.convert_i32x4_s(i32x4.add(fraction, hidden)), i32x4.shl(exponent, 23));
}

/** i ± 1 where |x| = a lies beyond the midpoint above or below i (in units of `step`), or on it and i is odd. */
// @ts-ignore: decorator
@inline
function decide(a: v128, i: v128, high: v128, low: v128): v128 {
  const odd = i32x4.shr_s(i32x4.shl(i, 31), 31);
  const up = v128.or(f32x4.gt(a, high), v128.and(f32x4.eq(a, high), odd));
  const down = v128.or(f32x4.lt(a, low), v128.and(f32x4.eq(a, low), odd));
  return i32x4.add(i32x4.sub(i, up), down);
}

/** Integers nearest to (x − minimum) / step. */
export function redoInt(x: v128, minimum: v128, step: v128): v128 {
  const v = f32x4.sub(x, minimum);
  const a = f32x4.abs(v);
  const n = f32x4.nearest(f32x4.pmin(f32x4.div(a, step), f32x4.splat(65536)));
  const half = f32x4.splat(0.5);
  const high = f32x4.mul(step, f32x4.add(n, half));
  const low = f32x4.mul(step, f32x4.sub(n, half));
  const i = decide(a, i32x4.trunc_sat_f32x4_s(n), high, low);
  const sign = i32x4.shr_s(v, 31);
  return i32x4.sub(v128.xor(i, sign), sign);
}

/** Magnitude codes of E2M1 nearest to fl(|x| / step), ties to even: libraries round the quotient itself. 0 for x = 0. */
export function redoQuotient(x: v128, step: v128): v128 {
  const a = f32x4.abs(x);
  const q = f32x4.pmin(f32x4.div(a, step), f32x4.splat(6));
  const t = v128.and(q, f32x4.gt(a, f32x4.splat(0)));
  const e = i32x4.max_s(v128.and(t, i32x4.splat(0x7f800000)), i32x4.splat(127 << 23));
  const n = i32x4.trunc_sat_f32x4_s(f32x4.nearest(f32x4.mul(t, i32x4.sub(i32x4.splat(255 << 23), e))));
  return i32x4.add(n, i32x4.sub(i32x4.shr_u(e, 22), i32x4.splat(127 << 1)));
}

/** Magnitude codes of the minifloats nearest to |x| / step, saturating at `last`. */
export function redoFloat(x: v128, step: v128, mantissaBits: i32, bias: i32, last: i32): v128 {
  const a = f32x4.abs(x);
  const q = f32x4.pmin(f32x4.div(a, step), f32x4.splat(midpoint(last, mantissaBits, bias) * 2));
  const e = i32x4.max_s(v128.and(q, i32x4.splat(0x7f800000)), i32x4.splat((128 - bias) << 23));
  const n = f32x4.nearest(f32x4.mul(q, i32x4.sub(i32x4.splat((254 + mantissaBits) << 23), e)));
  const spacing = i32x4.sub(e, i32x4.splat(mantissaBits << 23));
  const half = f32x4.splat(0.5);
  // midpoints inside the binade; at its ends q itself is far from the midpoint that would be another one
  const high = f32x4.mul(step, f32x4.mul(f32x4.add(n, half), spacing));
  const low = f32x4.mul(step, f32x4.mul(f32x4.sub(n, half), spacing));
  const i = decide(a, i32x4.trunc_sat_f32x4_s(n), high, low);
  const first = i32x4.sub(i32x4.shr_u(e, 23 - mantissaBits), i32x4.splat((128 - bias) << mantissaBits));
  return i32x4.min_s(i32x4.add(i, first), i32x4.splat(last));
}
