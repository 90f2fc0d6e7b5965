// Exactly rounded conversions in WGSL, in integers where the language promises less: division, narrow floats.

/**
 * `divided(a, b) -> u32`: bits of |a| / |b| as f32, rounded to nearest even, from the bits of two positive numbers (b
 * not 0). Schoolbook division of the significands, eight bits at a time, then one rounding.
 */
export const divisionSource = `
fn divided(a: u32, b: u32) -> u32 {
  if (a == 0u) { return 0u; }
  let n = normalized(a);
  let d = normalized(b);
  var exponent = bitcast<i32>(n.x) - bitcast<i32>(d.x) + 127;
  var top = n.y;
  if (top < d.y) { top <<= 1u; exponent -= 1; }
  var quotient = 1u;
  var rest = top - d.y;
  for (var i = 0; i < 3; i++) {
    rest <<= 8u;
    let digit = rest / d.y;
    rest -= digit * d.y;
    quotient = (quotient << 8u) | digit;
  }
  quotient = (quotient << 1u) | select(0u, 1u, rest != 0u);
  let shift = u32(2 + max(0, 1 - exponent));
  if (shift > 27u) { return 0u; }
  let rounded = (quotient + (1u << (shift - 1u)) - 1u + ((quotient >> shift) & 1u)) >> shift;
  return min((u32(max(exponent, 1) - 1) << 23u) + rounded, 0x7f800000u);
}
/* Exponent field (below 1 for subnormals) and the 24 bits of the significand. */
fn normalized(bits: u32) -> vec2u {
  let field = bits >> 23u;
  let fraction = bits & 0x7fffffu;
  let zeros = countLeadingZeros(fraction) - 8u;
  return select(vec2u(field, fraction | 0x800000u), vec2u(1u - zeros, fraction << zeros), field == 0u);
}
`;

/**
 * `NAME(bits) -> u32`: code of a positive f32 in a float of `mantissaBits` and `bias`, nearest even, at most `last`; a
 * positive number does not become 0 unless `toZero`.
 */
export const narrowSource = (name: string, mantissaBits: number, bias: number, last: number, toZero = false) => `
fn ${name}(bits: u32) -> u32 {
  let field = bits >> 23u;
  let m = select((bits & 0x7fffffu) | 0x800000u, bits & 0x7fffffu, field == 0u);
  let exponent = i32(max(field, 1u)) + ${bias - 127};
  let shift = ${23 - mantissaBits}u + u32(max(0, 1 - exponent));
  let rounded = select((m + (1u << (shift - 1u)) - 1u + ((m >> shift) & 1u)) >> shift, 0u, shift > 25u);
  let code = min((u32(max(exponent, 1) - 1) << ${mantissaBits}u) + rounded, ${last}u);
  return ${toZero ? 'code' : 'max(code, select(0u, 1u, bits != 0u))'};
}
`;
