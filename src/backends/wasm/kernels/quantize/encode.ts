// Sixteen float32 values to codes of an element type: nearest, ties to even, decided as src/formats/minifloat.ts does.
//
// Quotient q = x / step in float32. Integers round q; minifloats round q divided by the spacing of its binade, so that
// both are one rounding to an integer n. The reference decides by comparing |x| with fl(step × midpoint), which can
// differ from rounding q only where q is within float32 error of a midpoint: lanes with |f − n| ≥ 0.4999 are redone by
// scalar code that makes that comparison. For a step that is a power of two q is exact and there is nothing to redo.

/** Parameters of a minifloat: value = (code below 2^M: code, else 2^M + fraction) · 2^(max(field, 1) − bias − M). */
// @ts-ignore: decorator
@inline
function midpoint(code: i32, mantissaBits: i32, bias: i32): f32 {
  const field = code >> mantissaBits;
  const fraction = code & ((1 << mantissaBits) - 1);
  const integer = field == 0 ? fraction : fraction + (1 << mantissaBits);
  const spacing = reinterpret<f32>((max(field, 1) - bias - mantissaBits + 127) << 23);
  return (f32(integer) + 0.5) * spacing;
}

/** Corrects a magnitude code that is at most one off. `last`: largest code. */
function decideFloat(a: f32, step: f32, code: i32, mantissaBits: i32, bias: i32, last: i32): i32 {
  const odd = (code & 1) != 0;
  if (code < last) {
    const high = step * midpoint(code, mantissaBits, bias);
    if (a > high || (a == high && odd)) return code + 1;
  }
  if (code > 0) {
    const low = step * midpoint(code - 1, mantissaBits, bias);
    if (a < low || (a == low && odd)) return code - 1;
  }
  return code;
}

function decideInt(a: f32, step: f32, n: i32): i32 {
  const odd = (n & 1) != 0;
  const high = step * (f32(n) + 0.5);
  if (a > high || (a == high && odd)) return n + 1;
  if (n > 0) {
    const low = step * (f32(n) - 0.5);
    if (a < low || (a == low && odd)) return n - 1;
  }
  return n;
}

/** A power of two, for which quotients are exact. */
// @ts-ignore: decorator
@inline
export function isPowerOfTwo(step: f32): bool {
  const bits = reinterpret<u32>(step);
  return bits >= 0x800000 ? (bits & 0x7fffff) == 0 : popcnt(bits) == 1;
}

// @ts-ignore: decorator
@inline
function near(f: v128, n: v128): v128 {
  return f32x4.ge(f32x4.abs(f32x4.sub(f, n)), f32x4.splat(0.4999));
}

// @ts-ignore: decorator
@inline
function anyNear(f0: v128, f1: v128, f2: v128, f3: v128, n0: v128, n1: v128, n2: v128, n3: v128): bool {
  return v128.any_true(v128.or(v128.or(near(f0, n0), near(f1, n1)), v128.or(near(f2, n2), near(f3, n3))));
}

/**
 * Integers: clamp(round((x − minimum) / step) + zero, low, high) of 16 values as bytes; step ≠ 0.
 * The bytes are the low 8 bits of the code, for signed and unsigned ranges alike.
 */
export function encodeInt16(x: usize, step: f32, exact: bool, minimum: f32, zero: i32, low: i32, high: i32): v128 {
  const d = f32x4.splat(step);
  const m = f32x4.splat(minimum);
  const f0 = f32x4.div(f32x4.sub(v128.load(x), m), d);
  const f1 = f32x4.div(f32x4.sub(v128.load(x, 16), m), d);
  const f2 = f32x4.div(f32x4.sub(v128.load(x, 32), m), d);
  const f3 = f32x4.div(f32x4.sub(v128.load(x, 48), m), d);
  const n0 = f32x4.nearest(f0);
  const n1 = f32x4.nearest(f1);
  const n2 = f32x4.nearest(f2);
  const n3 = f32x4.nearest(f3);
  if (!exact && anyNear(f0, f1, f2, f3, n0, n1, n2, n3)) return redoInt16(x, step, minimum, zero, low, high);
  let a = i16x8.narrow_i32x4_s(i32x4.trunc_sat_f32x4_s(n0), i32x4.trunc_sat_f32x4_s(n1));
  let b = i16x8.narrow_i32x4_s(i32x4.trunc_sat_f32x4_s(n2), i32x4.trunc_sat_f32x4_s(n3));
  const z = i16x8.splat(<i16>zero);
  const lowest = i16x8.splat(<i16>low);
  const highest = i16x8.splat(<i16>high);
  a = i16x8.min_s(i16x8.max_s(i16x8.add_sat_s(a, z), lowest), highest);
  b = i16x8.min_s(i16x8.max_s(i16x8.add_sat_s(b, z), lowest), highest);
  const byte = i16x8.splat(0xff);
  return i8x16.narrow_i16x8_u(v128.and(a, byte), v128.and(b, byte));
}

function redoInt16(x: usize, step: f32, minimum: f32, zero: i32, low: i32, high: i32): v128 {
  let word0: u64 = 0;
  let word1: u64 = 0;
  for (let i = 0; i < 16; i++) {
    const v = load<f32>(x + (<usize>i << 2)) - minimum;
    const a = abs(v);
    let n = <i32>min(nearest(a / step), 65536);
    if (n < 65536) n = decideInt(a, step, n);
    const code = min(max((v < 0 ? -n : n) + zero, low), high);
    if (i < 8) word0 |= (<u64>code & 0xff) << (<u64>i << 3);
    else word1 |= (<u64>code & 0xff) << ((<u64>i - 8) << 3);
  }
  return i64x2.replace_lane(i64x2.splat(word0), 1, word1);
}

/** value / spacing of its binade, rounded: the integer is added to the binade's first code by floatCodes. */
// @ts-ignore: decorator
@inline
function binade(q: v128, lowest: v128): v128 {
  return i32x4.max_s(v128.and(q, i32x4.splat(0x7f800000)), lowest);
}

/** Magnitudes in units of their spacing: q · 2^(M − e), exact. */
// @ts-ignore: decorator
@inline
function inSpacing(q: v128, e: v128, unit: v128): v128 {
  return f32x4.mul(q, i32x4.sub(unit, e));
}

// @ts-ignore: decorator
@inline
function floatCodes(n: v128, e: v128, offset: v128, shift: i32, last: v128): v128 {
  const first = i32x4.sub(i32x4.shr_s(e, shift), offset);
  return i32x4.min_s(i32x4.add(i32x4.trunc_sat_f32x4_s(n), first), last);
}

/** Minifloats with a sign bit above the magnitude: 16 values as bytes; step ≠ 0, saturating at code `last`. */
export function encodeFloat16(x: usize, step: f32, exact: bool, mantissaBits: i32, bias: i32, last: i32, sign: i32): v128 {
  const d = f32x4.splat(step);
  const x0 = v128.load(x);
  const x1 = v128.load(x, 16);
  const x2 = v128.load(x, 32);
  const x3 = v128.load(x, 48);
  // twice the largest value: beyond it the code is the last one anyway, and binades stay in range
  const top = f32x4.splat(midpoint(last, mantissaBits, bias) * 2);
  const q0 = f32x4.pmin(f32x4.div(f32x4.abs(x0), d), top);
  const q1 = f32x4.pmin(f32x4.div(f32x4.abs(x1), d), top);
  const q2 = f32x4.pmin(f32x4.div(f32x4.abs(x2), d), top);
  const q3 = f32x4.pmin(f32x4.div(f32x4.abs(x3), d), top);
  const lowest = i32x4.splat((128 - bias) << 23);
  const e0 = binade(q0, lowest);
  const e1 = binade(q1, lowest);
  const e2 = binade(q2, lowest);
  const e3 = binade(q3, lowest);
  const unit = i32x4.splat((254 + mantissaBits) << 23);
  const f0 = inSpacing(q0, e0, unit);
  const f1 = inSpacing(q1, e1, unit);
  const f2 = inSpacing(q2, e2, unit);
  const f3 = inSpacing(q3, e3, unit);
  const n0 = f32x4.nearest(f0);
  const n1 = f32x4.nearest(f1);
  const n2 = f32x4.nearest(f2);
  const n3 = f32x4.nearest(f3);
  const shift = 23 - mantissaBits;
  const offset = i32x4.splat((128 - bias) << mantissaBits);
  const largest = i32x4.splat(last);
  const c0 = floatCodes(n0, e0, offset, shift, largest);
  const c1 = floatCodes(n1, e1, offset, shift, largest);
  const c2 = floatCodes(n2, e2, offset, shift, largest);
  const c3 = floatCodes(n3, e3, offset, shift, largest);
  const codes = i8x16.narrow_i16x8_u(i16x8.narrow_i32x4_s(c0, c1), i16x8.narrow_i32x4_s(c2, c3));
  // arithmetic shifts in saturating narrowing keep the sign of each value
  const signs = i8x16.shr_s(i8x16.narrow_i16x8_s(i16x8.narrow_i32x4_s(x0, x1), i16x8.narrow_i32x4_s(x2, x3)), 7);
  const signed = v128.and(signs, i8x16.splat(<i8>sign));
  if (!exact && anyNear(f0, f1, f2, f3, n0, n1, n2, n3)) {
    return v128.or(redoFloat16(x, step, codes, mantissaBits, bias, last), signed);
  }
  return v128.or(codes, signed);
}

function redoFloat16(x: usize, step: f32, codes: v128, mantissaBits: i32, bias: i32, last: i32): v128 {
  let word0 = i64x2.extract_lane(codes, 0);
  let word1 = i64x2.extract_lane(codes, 1);
  let out0: u64 = 0;
  let out1: u64 = 0;
  for (let i: u64 = 0; i < 8; i++) {
    const shift = i << 3;
    const a0 = abs(load<f32>(x + (<usize>i << 2)));
    const a1 = abs(load<f32>(x + (<usize>i << 2), 32));
    out0 |= <u64>decideFloat(a0, step, <i32>((word0 >> shift) & 0xff), mantissaBits, bias, last) << shift;
    out1 |= <u64>decideFloat(a1, step, <i32>((word1 >> shift) & 0xff), mantissaBits, bias, last) << shift;
  }
  return i64x2.replace_lane(i64x2.splat(out0), 1, out1);
}
