// Packed codes in WGSL as the integers of the exact products (integer-plan.ts): value = integer × unit × scale.
//
// Four integers in the bytes of a word, for dot4I8Packed. Four-bit codes are spread and translated for a whole word at
// once: E2M1 magnitudes m become m + (m5) + 2 (m6) + 5 (m7), twice their values; two's complement nibbles get their sign
// repeated; zero points are subtracted from bytes that have 128 added, so that nothing is borrowed from a neighbour.

import { elementCodec } from '../../../formats/element.ts';
import type { QuantSpec } from '../../../formats/format.ts';
import { isInt } from '../../../formats/table.ts';
import { integerCodes } from '../../integer-plan.ts';
import { eightCodes, type PackedMatrix, scaleIndex, storedScaleSource } from './decode.ts';

/** What every module with packed integers declares once. `dot4`: the device has dot4I8Packed. */
export const packedIntegerSource = (dot4: boolean) => `
fn spread(half: u32) -> u32 {
  let pairs = (half | (half << 8u)) & 0x00ff00ffu;
  return (pairs | (pairs << 4u)) & 0x0f0f0f0fu;
}
fn fp4Bytes(half: u32) -> u32 {
  let y = spread(half);
  let m = y & 0x07070707u;
  let h = (m >> 2u) & 0x01010101u;
  let more = h & (m >> 1u);
  let magnitude = m + (h & m) + 2u * more + 2u * (more & m);
  /* Zero has no sign: the carry of its negation would reach the next byte. */
  let sign = (y >> 3u) & (m | (m >> 1u) | (m >> 2u)) & 0x01010101u;
  return (magnitude ^ (sign * 255u)) + sign;
}
fn nibbleBytes(half: u32) -> u32 {
  let y = spread(half);
  return y | ((y & 0x08080808u) * 30u);
}
fn lessZero(bytes: u32, zero: u32) -> u32 { return ((bytes | 0x80808080u) - zero * 0x01010101u) ^ 0x80808080u; }
fn packBytes(v: vec4i) -> u32 {
  return (u32(v.x) & 255u) | ((u32(v.y) & 255u) << 8u) | ((u32(v.z) & 255u) << 16u) | (u32(v.w) << 24u);
}
fn dot4(a: u32, b: u32) -> i32 {
  ${dot4 ? 'return dot4I8Packed(a, b);' : dotInTwo}
}
`;

const lanes = (x: string) => `bitcast<vec4i>(vec4u(${x}) << vec4u(24u, 16u, 8u, 0u)) >> vec4u(24u)`;
const dotInTwo = `return dot(${lanes('a')}, ${lanes('b')});`;

function integersOf(p: string, array: string, { cols, layout }: PackedMatrix, spec: QuantSpec, index: string): string {
  const { bits } = elementCodec(spec);
  const codes = eightCodes(p, array, bits, cols);
  const integers = integerCodes(spec);
  if (!integers) throw new Error('webgpu: a format without integers was planned as integers');
  const hasZero = spec.zeroPoint !== 'none';
  const zero = hasZero ? `let zero = ${p}Byte(${layout.zeroPoints}u + ${index});` : '';
  if (bits === 8 && isInt(spec.element) && !hasZero) return `${codes}\n  return vec2u(first, second);`;
  if (bits === 4 && spec.element === 'e2m1')
    return `${codes}\n  return vec2u(fp4Bytes(first & 0xffffu), fp4Bytes(first >> 16u));`;
  if (bits === 4 && isInt(spec.element)) {
    const bytes = (half: string) => (hasZero ? `lessZero(spread(${half}), zero)` : `nibbleBytes(${half})`);
    return `${codes}\n  ${zero}\n  return vec2u(${bytes('first & 0xffffu')}, ${bytes('first >> 16u')});`;
  }
  const four = (v: string) => ['x', 'y', 'z', 'w'].map((c) => `${p}Integers[${v}.${c}]`).join(', ');
  const pack = (v: string) => `packBytes(vec4i(${four(v)})${hasZero ? ' - vec4i(i32(zero))' : ''})`;
  return `${codes}\n  ${zero}\n  return vec2u(${pack('low')}, ${pack('high')});`;
}

/**
 * `PREFIXBytes(row, k) -> vec2u`: integers k … k + 7, zeros from K on; `PREFIXBlockScale(row, k) -> f32`: scale of the
 * block at k times the unit, or the unit alone where one scale holds for rows; `PREFIXRowScale(row) -> f32` that one.
 * Needs accessSource(prefix, …), valueSource and packedIntegerSource.
 */
export function integerSource(
  p: string,
  array: string,
  matrix: PackedMatrix,
  spec: QuantSpec,
  perRow: boolean,
): string {
  const { cols, layout } = matrix;
  const integers = integerCodes(spec);
  const unit = integers?.unit ?? 1;
  const index = (k: string) => scaleIndex(matrix, spec, 'row', k);
  const table = `const ${p}Integers = array<i32, ${integers?.values.length}>(${[...(integers?.values ?? [])].join(', ')});`;
  const scale = (k: string) => `${p}Stored(${index(k)})`;
  const tail =
    cols % 8 === 0
      ? ''
      : `let left = min(${cols}u - k, 8u);
  let keep = vec2u(min(left, 4u), max(left, 4u) - 4u);
  return bytes & select((vec2u(1u) << (keep * 8u)) - vec2u(1u), vec2u(0xffffffffu), keep == vec2u(4u));`;
  return `${storedScaleSource(`${p}Stored`, p, array, spec.scale.format, layout.scales)}
${table}
fn ${p}Codes(row: u32, col: u32) -> vec2u {
  ${integersOf(p, array, matrix, spec, index('col'))}
}
fn ${p}Bytes(row: u32, k: u32) -> vec2u {
  ${tail ? `let bytes = ${p}Codes(row, k);\n  ${tail}` : `return ${p}Codes(row, k);`}
}
fn ${p}BlockScale(row: u32, k: u32) -> f32 { return ${perRow ? `f32(${unit})` : `${scale('k')} * ${unit}`}; }
fn ${p}RowScale(row: u32) -> f32 { return ${perRow ? scale('0u') : '1.0'}; }
`;
}
