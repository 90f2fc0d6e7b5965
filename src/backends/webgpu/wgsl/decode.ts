// Packed values in WGSL: eight neighbouring values of a row as f32, equal to the reference codec bit for bit.
//
//   value = fl(fl(element × scale) × tensorScale) | fl((code − zero) × scale) | fl(fl(code × scale) + minimum)
//
// A power of two that makes the elements easier to decode (E2M1: 1/2, fixed-point integers) is moved into the scale,
// where it is exact unless the scale is subnormal. The product with a minimum is exact where the scale has 16 bits or
// fewer, so that fusing it with the addition changes nothing; with f32 scales it goes through `unfused`. Devices may
// flush subnormal scales and values to zero.

import { elementCodec, integerUnit } from '../../../formats/element.ts';
import type { Format, QuantSpec, ScaleFormat } from '../../../formats/format.ts';
import { scaleLayout } from '../../../formats/layout.ts';
import { packedRowBytes } from '../../../formats/packing.ts';
import { intArmValues } from '../../../formats/quantize-spec.ts';
import { scaleBytes } from '../../../formats/scale-format.ts';
import { isInt, isMinifloat, minifloats, scaleMinifloats } from '../../../formats/table.ts';
import type { PackedLayout } from '../../packed-layout.ts';
import { accessSource, floatText, minifloatSource, valueSource } from './bits.ts';
import { ggmlSharedSource, ggmlSource } from './decode-ggml.ts';

/** A packed matrix as a kernel sees it. */
export interface PackedMatrix {
  readonly format: Format;
  readonly rows: number;
  readonly cols: number;
  readonly layout: PackedLayout;
}

/** What one matrix needs: a name for its functions, and the array<u32> that holds all of its parts. */
export interface PackedSource {
  readonly prefix: string;
  readonly array: string;
  readonly matrix: PackedMatrix;
}

/** An f32 that the compiler cannot fuse with what follows; `words.items` is never 2^32 − 1. */
export const unfusedSource = `
fn unfused(x: vec4f) -> vec4f { return bitcast<vec4f>(bitcast<vec4u>(x) ^ vec4u(select(0u, 1u, words.items == 0xffffffffu))); }
`;

/**
 * For each matrix `PREFIXEight(row, col) -> Eight`: values col … col + 7 of a row, col a multiple of 8. Values at and
 * beyond the last column are undefined, but read inside the matrix's memory.
 */
export function decodeSource(sources: readonly PackedSource[]): string {
  const types = sources.flatMap(({ matrix: { format } }) => (format.kind === 'ggml' ? [format.type] : []));
  const each = sources.map(
    ({ prefix, array, matrix }) => accessSource(prefix, array) + matrixSource(prefix, array, matrix),
  );
  return valueSource + unfusedSource + ggmlSharedSource(types) + each.join('');
}

function matrixSource(p: string, array: string, matrix: PackedMatrix): string {
  const { format, cols } = matrix;
  switch (format.kind) {
    case 'ggml':
      return ggmlSource(p, format.type, cols);
    case 'hif4':
      return hif4Source(p, array, matrix);
    case 'float':
      return format.name === 'f32' ? f32Source(p, array, cols) : halfSource(p, cols, format.name);
    case 'quant':
      return specSource(p, array, matrix, format);
  }
}

const f32Source = (p: string, array: string, cols: number) => `
fn ${p}Eight(row: u32, col: u32) -> Eight {
  let at = row * ${cols}u + col;
  let low = vec4u(${array}[at], ${array}[at + 1u], ${array}[at + 2u], ${array}[at + 3u]);
  let high = vec4u(${array}[at + 4u], ${array}[at + 5u], ${array}[at + 6u], ${array}[at + 7u]);
  return Eight(bitcast<vec4f>(low), bitcast<vec4f>(high));
}
`;

function halfSource(p: string, cols: number, name: 'f16' | 'bf16'): string {
  const value = (half: string) => (name === 'f16' ? `f16Value(${half})` : `bitcast<f32>((${half}) << 16u)`);
  return `
fn ${p}Pair(word: u32) -> vec2f { return vec2f(${value('word & 0xffffu')}, ${value('word >> 16u')}); }
fn ${p}Eight(row: u32, col: u32) -> Eight {
  let at = 2u * (row * ${cols}u + col);
  return Eight(
    vec4f(${p}Pair(${p}Word(at)), ${p}Pair(${p}Word(at + 4u))),
    vec4f(${p}Pair(${p}Word(at + 8u)), ${p}Pair(${p}Word(at + 12u))));
}
`;
}

const hif4Source = (p: string, array: string, { cols, layout }: PackedMatrix) => `
fn ${p}Magnitudes(codes: vec4u) -> vec4f {
  let magnitude = vec4f(codes & vec4u(7u));
  return bitcast<vec4f>(bitcast<vec4u>(magnitude) | ((codes & vec4u(8u)) << vec4u(28u)));
}
fn ${p}Eight(row: u32, col: u32) -> Eight {
  let at = row * ${cols}u + col;
  let word = ${array}[at >> 3u];
  let scales = ${array}[${layout.scales / 4}u + (at >> 6u)];
  let first = scales & 0xffu;
  /* E6M2: 2^(e − 48) (1 + m/4), a quarter of it for the whole magnitudes. */
  let bits = (((first >> 2u) + ${127 - 50}u) << 23u) | ((first & 3u) << 21u);
  let base = bitcast<f32>(select(bits, 0x7fc00000u, first == 255u));
  let eighth = (at >> 3u) & 7u;
  let shift = (scales >> (8u + eighth)) & 1u;
  let fours = scales >> (16u + 2u * eighth);
  return Eight(
    ${p}Magnitudes(nibblesOf(word)) * (base * f32(1u << (shift + (fours & 1u)))),
    ${p}Magnitudes(nibblesOf(word >> 16u)) * (base * f32(1u << (shift + ((fours >> 1u) & 1u)))));
}
`;

/** `PREFIXElements(codes: vec4u) -> vec4f`, and the power of two by which the scale is multiplied instead. */
function elementsSource(p: string, spec: QuantSpec): [source: string, unit: number] {
  const name = `${p}Elements`;
  const { element } = spec;
  const { bits, values } = elementCodec(spec);
  const define = (body: string) => `\nfn ${name}(codes: vec4u) -> vec4f { return ${body}; }\n`;
  if (element === 'e2m1') return [define('doubledFp4(codes)'), 1 / 2];
  if (isMinifloat(element)) return [minifloatSource(name, minifloats[element]), 1];
  if (isInt(element)) {
    if (spec.zeroPoint !== 'none') return [define('vec4f(codes)'), 1];
    const shift = `vec4u(${32 - bits}u)`;
    return [define(`vec4f(bitcast<vec4i>(codes << ${shift}) >> ${shift})`), integerUnit(spec)];
  }
  const table = `const ${p}Values = array<f32, ${values.length}>(${Array.from(values, floatText).join(', ')});`;
  const look = ['x', 'y', 'z', 'w'].map((c) => `${p}Values[codes.${c}]`).join(', ');
  return [`\n${table}${define(`vec4f(${look})`)}`, 1];
}

/** `NAME(code: u32) -> f32`: the value of a scale code. */
export function scaleValueSource(name: string, format: ScaleFormat): string {
  const define = (body: string) => `\nfn ${name}(code: u32) -> f32 { return ${body}; }\n`;
  switch (format) {
    case 'f32':
      return define('bitcast<f32>(code)');
    case 'f16':
      return define('f16Value(code)');
    case 'bf16':
      return define('bitcast<f32>(code << 16u)');
    case 'e8m0':
      return define('bitcast<f32>(select(select(code << 23u, 0x00400000u, code == 0u), 0x7fc00000u, code == 255u))');
    case 'e6m2':
      return define(
        'bitcast<f32>(select((((code >> 2u) + 79u) << 23u) | ((code & 3u) << 21u), 0x7fc00000u, code == 255u))',
      );
    default:
      return minifloatSource(`${name}s`, scaleMinifloats[format]) + define(`${name}s(vec4u(code)).x`);
  }
}

/** `NAME(index) -> f32`: stored scale (or minimum) `index` of an array of them at byte `first`. */
export function storedScaleSource(name: string, p: string, array: string, format: ScaleFormat, first: number): string {
  const code = {
    1: `${p}Byte(${first}u + index)`,
    2: `${p}Half(${first}u + 2u * index)`,
    4: `${array}[${first / 4}u + index]`,
  }[scaleBytes(format)];
  return `${scaleValueSource(`${name}Value`, format)}
fn ${name}(index: u32) -> f32 { return ${name}Value(${code}); }
`;
}

/** Words `first` and `second` with the codes of eight values, and their codes as vec4u `low` and `high`. */
export function eightCodes(p: string, array: string, bits: number, cols: number): string {
  const rowBytes = packedRowBytes(bits, cols);
  const aligned = rowBytes % 4 === 0 && bits % 4 === 0;
  const at = `row * ${rowBytes}u + (col >> 3u) * ${bits}u`;
  const read = (offset: number) =>
    aligned ? `${array}[(at >> 2u) + ${offset / 4}u]` : `${p}Word(at${offset > 0 ? ` + ${offset}u` : ''})`;
  const code = (j: number) => {
    const from = j * bits;
    if (from >= 32) return `second >> ${from - 32}u`;
    const low = `first >> ${from}u`;
    return from + bits > 32 ? `(${low}) | (second << ${32 - from}u)` : low;
  };
  const four = (j: number) => [0, 1, 2, 3].map((k) => code(j + k)).join(', ');
  return `let at = ${at};
  let first = ${read(0)};
  ${bits > 4 ? `let second = ${read(4)};` : ''}
  let low = vec4u(${four(0)}) & vec4u(${2 ** bits - 1}u);
  let high = vec4u(${four(4)}) & vec4u(${2 ** bits - 1}u);`;
}

/** Index of the scale of (row, column) as text. */
export function scaleIndex({ rows, cols }: PackedMatrix, spec: QuantSpec, row: string, col: string): string {
  const { tileRows, tileCols, scaleCols } = scaleLayout(spec.granularity, rows, cols);
  const down = tileRows >= rows ? '' : tileRows === 1 ? row : `${row} / ${tileRows}u`;
  const first = down && (scaleCols === 1 ? `(${down})` : `(${down}) * ${scaleCols}u`);
  const across = tileCols >= cols ? '' : `(${col}) / ${tileCols}u`;
  return [first, across].filter(Boolean).join(' + ') || '0u';
}

function specSource(p: string, array: string, matrix: PackedMatrix, spec: QuantSpec): string {
  const { cols, layout } = matrix;
  const { bits } = elementCodec(spec);
  const { tileCols } = scaleLayout(spec.granularity, matrix.rows, cols);
  const [elements, unit] = elementsSource(p, spec);
  const { format } = spec.scale;
  const scales = storedScaleSource(`${p}Stored`, p, array, format, layout.scales);
  const minima =
    spec.zeroPoint === 'float' ? storedScaleSource(`${p}Minimum`, p, array, format, layout.zeroPoints) : '';
  const second = spec.scale.tensorScale ? ` * bitcast<f32>(${array}[${layout.tensorScale / 4}u])` : '';
  const arm = spec.choice === 'int-or-float';
  const value = {
    none: `${p}Elements(codes) * ${p}Scale(index)${second}`,
    integer: `(vec4f(codes) - vec4f(f32(${p}Byte(${layout.zeroPoints}u + index)))) * ${p}Scale(index)`,
    float: `${format === 'f32' ? `unfused(vec4f(codes) * ${p}Scale(index))` : `vec4f(codes) * ${p}Scale(index)`} + vec4f(${p}Minimum(index))`,
  }[spec.zeroPoint];
  const otherArm = `if (${p}Byte(${layout.scales}u + index) > 127u) {
    let whole = vec4f(bitcast<vec4i>(codes << vec4u(28u)) >> vec4u(28u)) * ${floatText(intArmValues[1])};
    return whole * -${p}Stored(index)${second};
  }`;
  const four = `
fn ${p}Scale(index: u32) -> f32 { return ${p}Stored(index)${unit === 1 ? '' : ` * ${floatText(unit)}`}; }
fn ${p}Four(codes: vec4u, index: u32) -> vec4f {
  ${arm ? otherArm : ''}
  return ${value};
}
`;
  return `${elements}${scales}${minima}${four}
fn ${p}Eight(row: u32, col: u32) -> Eight {
  ${eightCodes(p, array, bits, cols)}
  ${scaledEight(p, matrix, spec, tileCols)}
}
`;
}

/** The values of `low` and `high`, by as few scales as the tiles allow. */
function scaledEight(p: string, matrix: PackedMatrix, spec: QuantSpec, tileCols: number): string {
  const index = (offset: number) => scaleIndex(matrix, spec, 'row', offset > 0 ? `col + ${offset}u` : 'col');
  const even = (n: number) => tileCols >= matrix.cols || tileCols % n === 0;
  if (even(8))
    return `let index = ${index(0)};
  return Eight(${p}Four(low, index), ${p}Four(high, index));`;
  if (even(4)) return `return Eight(${p}Four(low, ${index(0)}), ${p}Four(high, ${index(4)}));`;
  const each = (codes: string, first: number) =>
    ['x', 'y', 'z', 'w'].map((c, k) => `${p}Four(vec4u(${codes}.${c}), ${index(first + k)}).x`).join(', ');
  return `return Eight(vec4f(${each('low', 0)}), vec4f(${each('high', 4)}));`;
}
