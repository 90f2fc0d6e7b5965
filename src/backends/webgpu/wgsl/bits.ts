// Bits in WGSL: fields of packed bytes, floats of 16 bits and fewer to f32, exactly and without subnormals on the way.

import type { MinifloatParameters } from '../../../formats/table.ts';

/**
 * Functions that read an array<u32> called `array` by byte address: PREFIXByte, PREFIXHalf (even addresses) and
 * PREFIXWord (any address; reads the following word too, which must exist).
 */
export const accessSource = (prefix: string, array: string) => `
fn ${prefix}Byte(at: u32) -> u32 { return (${array}[at >> 2u] >> (8u * (at & 3u))) & 0xffu; }
fn ${prefix}Half(at: u32) -> u32 { return (${array}[at >> 2u] >> (8u * (at & 2u))) & 0xffffu; }
fn ${prefix}Word(at: u32) -> u32 {
  let shift = 8u * (at & 3u);
  let low = ${array}[at >> 2u] >> shift;
  return select(low | (${array}[(at >> 2u) + 1u] << (32u - shift)), low, shift == 0u);
}
`;

/** Eight neighbouring values of a row, bytes of a word, f16 to f32. Declared once in a module. */
export const valueSource = `
struct Eight { low: vec4f, high: vec4f }
fn bytesOf(word: u32) -> vec4u { return (vec4u(word) >> vec4u(0u, 8u, 16u, 24u)) & vec4u(0xffu); }
fn nibblesOf(word: u32) -> vec4u { return (vec4u(word) >> vec4u(0u, 4u, 8u, 12u)) & vec4u(15u); }
fn f16Value(half: u32) -> f32 {
  let m = half & 0x7fffu;
  let shifted = m << 13u;
  let normal = bitcast<f32>(select(shifted + 0x38000000u, shifted | 0x7f800000u, m >= 0x7c00u));
  let value = select(normal, f32(m) * 5.9604644775390625e-8, m < 0x400u);
  return bitcast<f32>(bitcast<u32>(value) | ((half & 0x8000u) << 16u));
}
/* Twice the values of E2M1 codes: x is 1.0 with the three magnitude bits added to exponent and mantissa, min(x, 2x − 2). */
fn doubledFp4(codes: vec4u) -> vec4f {
  let x = bitcast<vec4f>(((codes & vec4u(7u)) << vec4u(22u)) + vec4u(0x3f800000u));
  let magnitude = min(x, x + x - vec4f(2.0));
  return bitcast<vec4f>(bitcast<vec4u>(magnitude) | ((codes & vec4u(8u)) << vec4u(28u)));
}
fn signedBytes(bytes: vec4u) -> vec4f { return vec4f(bitcast<vec4i>(bytes << vec4u(24u)) >> vec4u(24u)); }
`;

/** A float as WGSL text that parses to the same f32; finite numbers only. */
export function floatText(x: number): string {
  const text = String(Math.fround(x));
  return /[.e]/.test(text) ? text : `${text}.0`;
}

/** `NAME(codes: vec4u) -> vec4f`: values of minifloat codes, NaN and infinities included. */
export function minifloatSource(name: string, p: MinifloatParameters): string {
  const { bits, mantissaBits: M, exponentBits, bias, specials, signed } = p;
  const magnitudeBits = exponentBits + M;
  const mask = 2 ** magnitudeBits - 1;
  const normal = `(m << vec4u(${23 - M}u)) + vec4u(${(127 - bias) << 23}u)`;
  const special = {
    finite: '',
    fn: `bits = select(bits, vec4u(0x7fc00000u), m == vec4u(${mask}u));`,
    ieee: `bits = select(bits, (m << vec4u(${23 - M}u)) | vec4u(0x7f800000u), m >= vec4u(${mask + 1 - 2 ** M}u));`,
    fnuz: `bits = select(bits, vec4u(0x7fc00000u), codes == vec4u(${2 ** (bits - 1)}u));`,
  }[specials];
  const sign = signed ? `bits |= (codes >> vec4u(${bits - 1}u)) << vec4u(31u);` : '';
  return `
fn ${name}(codes: vec4u) -> vec4f {
  let m = codes & vec4u(${mask}u);
  let small = bitcast<vec4u>(vec4f(m) * ${floatText(2 ** (1 - bias - M))});
  var bits = select(${normal}, small, m < vec4u(${2 ** M}u));
  ${special}
  ${sign}
  return bitcast<vec4f>(bits);
}
`;
}
