// quantize to 16-bit floats, Q4_0, Q8_0 and HiF4, with the bytes of src/formats/bits.ts, ggml/legacy.ts and hif4.ts.
//
// Thread map: two neighbouring values (floats), two blocks of 32, which are whole words together (ggml), or one block of
// 64 (HiF4) a thread. No workgroup memory, no features.

import { bf16Bits, bf16Value } from '../../../formats/bits.ts';
import { nonFiniteError } from '../../data-error-codes.ts';
import { forEachItem } from '../entry.ts';
import { type Command, type DenseOperand, type Names, type PackedOperand, read, write } from '../kernel.ts';
import { floatText, valueSource } from '../wgsl/bits.ts';
import { unfusedSource } from '../wgsl/decode.ts';
import { divisionSource, narrowSource } from '../wgsl/rounding.ts';

/** `f16Code(bits)`: 65520 and beyond infinity, NaN canonical. */
const f16Source = `${narrowSource('f16Narrow', 10, 15, 0x7c00, true)}
fn f16Code(bits: u32) -> u32 {
  let a = bits & 0x7fffffffu;
  return ((bits >> 16u) & 0x8000u) | select(f16Narrow(a), 0x7e00u, a > 0x7f800000u);
}
`;

/** `bf16Code(bits)`: to nearest, ties to even; NaN canonical. */
export const bf16Source = `
fn bf16Code(bits: u32) -> u32 {
  let rounded = (bits + 0x7fffu + ((bits >> 16u) & 1u)) >> 16u;
  return select(rounded, ((bits >> 16u) & 0x8000u) | 0x7fc0u, (bits & 0x7fffffffu) > 0x7f800000u);
}
`;

const writeOne = (n: Names, { layout }: PackedOperand) =>
  `if (i == 0u) { ${n.y}[${layout.tensorScale / 4}u] = bitcast<u32>(1.0); }`;

function floats(y: PackedOperand, name: 'f32' | 'f16' | 'bf16') {
  const count = y.rows * y.cols;
  if (name === 'f32') return forEachItem(count, (n) => `${writeOne(n, y)}\n  ${n.y}[i] = ${n.x}[i];`);
  const body = (n: Names) => `${writeOne(n, y)}
  var word = ${name}Code(${n.x}[2u * i]);
  if (2u * i + 1u < ${count}u) { word |= ${name}Code(${n.x}[2u * i + 1u]) << 16u; }
  ${n.y}[i] = word;`;
  return forEachItem(Math.ceil(count / 2), body, name === 'f16' ? f16Source : bf16Source);
}

/** First value of largest magnitude of `count` values at `first`; NaN and infinities are reported and count as zero. */
const signedMaximum = (x: string, count: number) => `var most = 0u;
    for (var j = 0u; j < ${count}u; j++) {
      let bits = ${x}[first + j];
      if ((bits & 0x7fffffffu) > (most & 0x7fffffffu)) { most = bits; }
    }
    if ((most & 0x7fffffffu) >= 0x7f800000u) { report(${nonFiniteError}u, i32(i)); most = 0u; }`;

const reciprocal = 'select(divided(0x3f800000u, d & 0x7fffffffu) | (d & 0x80000000u), 0u, (d << 1u) == 0u)';

/** Halves away from zero. */
const awaySource = `
fn roundAway(x: f32) -> i32 {
  let whole = trunc(x);
  return i32(whole) + select(0, select(1, -1, x < 0.0), abs(x - whole) >= 0.5);
}
`;

const legacy = {
  q4_0: (n: Names) => `let d = bitcast<u32>(bitcast<f32>(most) * -0.125);
    let inverse = bitcast<f32>(${reciprocal});
    put(o, f16Code(d), 16u);
    for (var j = 0u; j < 32u; j++) {
      let product = unfused(vec4f(bitcast<f32>(${n.x}[first + j]) * inverse)).x;
      let code = u32(clamp(i32(product + 8.5), 0, 15));
      put(o + 16u + (j & 15u) * 8u + (j >> 4u) * 4u, code, 4u);
    }`,
  q8_0: (n: Names) => `let d = divided(most & 0x7fffffffu, bitcast<u32>(127.0));
    let inverse = bitcast<f32>(${reciprocal});
    put(o, f16Code(d), 16u);
    for (var j = 0u; j < 32u; j++) {
      put(o + 16u + j * 8u, u32(roundAway(bitcast<f32>(${n.x}[first + j]) * inverse)) & 255u, 8u);
    }`,
} as const;

function blocks(y: PackedOperand, type: keyof typeof legacy) {
  const bytes = type === 'q4_0' ? 18 : 34;
  const count = (y.rows * y.cols) / 32;
  const wordsOfTwo = bytes / 2;
  const prelude = `${valueSource}${unfusedSource}${divisionSource}${f16Source}${awaySource}
var<private> block: array<u32, ${wordsOfTwo}>;
fn put(at: u32, code: u32, bits: u32) {
  block[at >> 5u] |= code << (at & 31u);
}
`;
  const body = (n: Names) => `${writeOne(n, y)}
  for (var half = 0u; half < 2u && 2u * i + half < ${count}u; half++) {
    let first = (2u * i + half) * 32u;
    let o = half * ${8 * bytes}u;
    ${signedMaximum(n.x, 32)}
    ${legacy[type](n)}
  }
  let used = min(${wordsOfTwo}u, (${count * bytes + 3}u - i * ${2 * bytes}u) / 4u);
  for (var k = 0u; k < used; k++) { ${n.y}[i * ${wordsOfTwo}u + k] = block[k]; }`;
  return forEachItem(Math.ceil(count / 2), body, prelude);
}

/** bf16(1 / v) for the four significands of E6M2. */
const inverses = [1, 1.25, 1.5, 1.75].map((v) => bf16Value(bf16Bits(1 / v)));
const seventh = bf16Value(bf16Bits(1 / 7));

function hif4(y: PackedOperand) {
  const prelude = `${bf16Source}
const inverses = array<f32, 4>(${inverses.map(floatText).join(', ')});
fn magnitudeOf(bits: u32) -> f32 { return bitcast<f32>((bf16Code(bits) << 16u) & 0x7fffffffu); }
`;
  const body = (n: Names) => `${writeOne(n, y)}
  let first = i * 64u;
  ${signedMaximum(n.x, 64)}
  let top = clamp(
    bitcast<f32>(bf16Code(bitcast<u32>(magnitudeOf(most) * ${floatText(seventh)})) << 16u), ${floatText(2 ** -48)}, 49152.0);
  let bits = bitcast<u32>(top);
  let scale = min(((bits + 0xfffffu + ((bits >> 21u) & 1u)) >> 21u) - ${(127 - 48) << 2}u, 254u);
  /* 1 / scale: the inverse of the significand, and 2^(48 − e). */
  let r = inverses[scale & 3u] * bitcast<f32>((${127 + 48}u - (scale >> 2u)) << 23u);
  var levels = scale;
  for (var k = 0u; k < 8u; k++) {
    var fours = vec2f();
    for (var j = 0u; j < 8u; j++) { fours[j >> 2u] = max(fours[j >> 2u], magnitudeOf(${n.x}[first + 8u * k + j])); }
    let large = max(fours.x, fours.y) * r >= 4.0;
    let bound = select(2.0, 4.0, large);
    levels |= (select(0u, 1u, large) << (8u + k)) | (select(0u, 1u, fours.x * r >= bound) << (16u + 2u * k)) |
      (select(0u, 1u, fours.y * r >= bound) << (17u + 2u * k));
  }
  ${n.y}[${y.layout.scales / 4}u + i] = levels;
  for (var k = 0u; k < 8u; k++) {
    var word = 0u;
    for (var j = 0u; j < 8u; j++) {
      let x = ${n.x}[first + 8u * k + j];
      let shift = ((levels >> (8u + k)) & 1u) + ((levels >> (16u + 2u * k + (j >> 2u))) & 1u);
      let m = min(u32(floor(magnitudeOf(x) * r * f32(4u >> shift) + 0.5)), 7u);
      word |= (m | ((x >> 31u) << 3u)) << (4u * j);
    }
    ${n.y}[i * 8u + k] = word;
  }`;
  return forEachItem((y.rows * y.cols) / 64, body, prelude);
}

/** The command for x → y in a format that is no QuantSpec. */
export function encodeBlocks(x: DenseOperand, y: PackedOperand): Command[] {
  const { format } = y;
  const bindings = { x: read(x, 'u32'), y: write(y) };
  if (format.kind === 'float') return [{ bindings, ...floats(y, format.name) }];
  if (format.kind === 'hif4') return [{ bindings, reports: true, ...hif4(y) }];
  if (format.kind === 'ggml' && (format.type === 'q4_0' || format.type === 'q8_0'))
    return [{ bindings, reports: true, ...blocks(y, format.type) }];
  throw new Error('webgpu: quantize was planned for a format without a kernel');
}
