// IEEE double arithmetic in WGSL, in integers, for the few decisions where the reference computes in float64.
//
// Add, subtract, multiply, divide and square root, each rounded to nearest even; numbers are finite, and exponents are not
// bounded, which float32 inputs never notice. Costs 50 … 800 instructions an operation: estimate in f32 first, with a bound
// of the error, and come here when the estimate does not decide.

/** Needs divisionSource (`normalized`). */
export const doubleSource = `
/* (−1)^negative · m · 2^exponent, m = m.y · 2^32 + m.x from 2^52 to 2^53 − 1; zero: m = 0. */
struct Double { negative: bool, exponent: i32, m: vec2u }
fn isZero(a: Double) -> bool { return (a.m.x | a.m.y) == 0u; }
fn negated(a: Double) -> Double { return Double(!a.negative, a.exponent, a.m); }
fn doubleOf(bits: u32) -> Double {
  let a = bits & 0x7fffffffu;
  if (a == 0u) { return Double(false, 0, vec2u()); }
  let n = normalized(a);
  return Double((bits >> 31u) == 1u, bitcast<i32>(n.x) - 179, vec2u(n.y << 29u, n.y >> 3u));
}
fn shiftLeft(m: vec2u, d: u32) -> vec2u {
  if (d == 0u) { return m; }
  if (d >= 32u) { return vec2u(0u, m.x << (d - 32u)); }
  return vec2u(m.x << d, (m.y << d) | (m.x >> (32u - d)));
}
/* What is shifted out is remembered in the lowest bit. */
fn shiftRight(m: vec2u, d: u32) -> vec2u {
  if (d == 0u) { return m; }
  if (d > 63u) { return vec2u(select(0u, 1u, (m.x | m.y) != 0u), 0u); }
  let lost = shiftLeft(m, 64u - d);
  let sticky = select(0u, 1u, (lost.x | lost.y) != 0u);
  if (d >= 32u) { return vec2u((m.y >> (d - 32u)) | sticky, 0u); }
  return vec2u((m.x >> d) | (m.y << (32u - d)) | sticky, m.y >> d);
}
fn sumOf(a: vec2u, b: vec2u) -> vec2u {
  let low = a.x + b.x;
  return vec2u(low, a.y + b.y + select(0u, 1u, low < a.x));
}
fn differenceOf(a: vec2u, b: vec2u) -> vec2u { return vec2u(a.x - b.x, a.y - b.y - select(0u, 1u, a.x < b.x)); }
fn isLess(a: vec2u, b: vec2u) -> bool { return a.y < b.y || (a.y == b.y && a.x < b.x); }
/* m · 2^exponent, m of 56 bits. */
fn roundDouble(negative: bool, exponent: i32, m: vec2u) -> Double {
  let tail = m.x & 7u;
  var r = vec2u((m.x >> 3u) | (m.y << 29u), m.y >> 3u);
  if (tail > 4u || (tail == 4u && (r.x & 1u) == 1u)) { r = sumOf(r, vec2u(1u, 0u)); }
  if (r.y == 0x200000u) { return Double(negative, exponent + 4, vec2u(0u, 0x100000u)); }
  return Double(negative, exponent + 3, r);
}
fn addDoubles(a: Double, b: Double) -> Double {
  if (isZero(a)) { return b; }
  if (isZero(b)) { return a; }
  let swap = a.exponent < b.exponent || (a.exponent == b.exponent && isLess(a.m, b.m));
  var large = a;
  var small = b;
  if (swap) { large = b; small = a; }
  let l = shiftLeft(large.m, 3u);
  let s = shiftRight(shiftLeft(small.m, 3u), u32(large.exponent - small.exponent));
  if (large.negative == small.negative) {
    let sum = sumOf(l, s);
    let carry = sum.y >> 24u;
    return roundDouble(large.negative, large.exponent - 3 + i32(carry), shiftRight(sum, carry));
  }
  let rest = differenceOf(l, s);
  if ((rest.x | rest.y) == 0u) { return Double(false, 0, rest); }
  let zeros = select(countLeadingZeros(rest.y), 32u + countLeadingZeros(rest.x), rest.y == 0u) - 8u;
  return roundDouble(large.negative, large.exponent - 3 - i32(zeros), shiftLeft(rest, zeros));
}
fn product32(a: u32, b: u32) -> vec2u {
  let low = (a & 0xffffu) * (b & 0xffffu);
  let mixed = vec2u((a & 0xffffu) * (b >> 16u), (a >> 16u) * (b & 0xffffu));
  let middle = (low >> 16u) + (mixed.x & 0xffffu) + (mixed.y & 0xffffu);
  return vec2u(
    (low & 0xffffu) | (middle << 16u), (a >> 16u) * (b >> 16u) + (mixed.x >> 16u) + (mixed.y >> 16u) + (middle >> 16u));
}
fn multiplyDoubles(a: Double, b: Double) -> Double {
  if (isZero(a) || isZero(b)) { return Double(false, 0, vec2u()); }
  let low = product32(a.m.x, b.m.x);
  let mixed = product32(a.m.x, b.m.y);
  let other = product32(a.m.y, b.m.x);
  let high = product32(a.m.y, b.m.y);
  let first = sumOf(sumOf(mixed, vec2u(low.y, 0u)), vec2u(other.x, 0u));
  let top = sumOf(sumOf(high, vec2u(first.y, 0u)), vec2u(other.y, 0u));
  /* 105 or 106 bits: top · 2^64 + first.x · 2^32 + low.x */
  let shift = select(17u, 18u, top.y >= 512u);
  let sticky = select(0u, 1u, (low.x | (first.x << (32u - shift))) != 0u);
  let m = vec2u((first.x >> shift) | (top.x << (32u - shift)) | sticky, (top.x >> shift) | (top.y << (32u - shift)));
  return roundDouble(a.negative != b.negative, a.exponent + b.exponent + 32 + i32(shift), m);
}
fn divideDoubles(a: Double, b: Double) -> Double {
  if (isZero(a)) { return a; }
  var rest = a.m;
  var exponent = a.exponent - b.exponent - 55;
  if (isLess(rest, b.m)) { rest = shiftLeft(rest, 1u); exponent -= 1; }
  var quotient = vec2u();
  for (var i = 0; i < 56; i++) {
    quotient = shiftLeft(quotient, 1u);
    if (!isLess(rest, b.m)) { rest = differenceOf(rest, b.m); quotient.x |= 1u; }
    rest = shiftLeft(rest, 1u);
  }
  quotient.x |= select(0u, 1u, (rest.x | rest.y) != 0u);
  return roundDouble(a.negative != b.negative, exponent, quotient);
}
fn rootOf(a: Double) -> Double {
  if (isZero(a)) { return a; }
  let odd = u32(a.exponent) & 1u;
  let m = shiftLeft(a.m, odd);
  var root = vec2u();
  var rest = vec2u();
  for (var i = 0u; i < 56u; i++) {
    var pair = 0u;
    if (i < 27u) { pair = shiftLeft(m, 2u * i + 10u).y >> 30u; }
    rest = shiftLeft(rest, 2u);
    rest.x |= pair;
    var trial = shiftLeft(root, 2u);
    trial.x |= 1u;
    root = shiftLeft(root, 1u);
    if (!isLess(rest, trial)) { rest = differenceOf(rest, trial); root.x |= 1u; }
  }
  root.x |= select(0u, 1u, (rest.x | rest.y) != 0u);
  return roundDouble(false, (a.exponent - i32(odd) - 58) / 2, root);
}
/* Bits of the nearest f32, ties to even. */
fn floatBits(a: Double) -> u32 {
  if (isZero(a)) { return 0u; }
  let field = a.exponent + 179;
  let sign = select(0u, 0x80000000u, a.negative);
  if (field > 254) { return sign | 0x7f800000u; }
  let t = shiftRight(a.m, u32(26 + max(0, 1 - field))).x;
  let tail = t & 7u;
  let up = select(0u, 1u, tail > 4u || (tail == 4u && ((t >> 3u) & 1u) == 1u));
  return sign | min((u32(max(field, 1) - 1) << 23u) + (t >> 3u) + up, 0x7f800000u);
}
`;

/** A number as a Double in WGSL. */
export function doubleText(x: number): string {
  const view = new DataView(new ArrayBuffer(8));
  view.setFloat64(0, x);
  const [high, low] = [view.getUint32(0), view.getUint32(4)];
  const exponent = ((high >>> 20) & 0x7ff) - 1075;
  return `Double(${x < 0}, ${exponent}, vec2u(${low}u, ${((high & 0xfffff) | 0x100000) >>> 0}u))`;
}
