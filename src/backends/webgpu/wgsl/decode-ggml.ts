// ggml's block types in WGSL: eight neighbouring values of a block, equal to the reference codec (src/formats/ggml).
//
// Eight values that begin at a multiple of eight lie at one shift of eight neighbouring bytes in all types but TQ1_0's
// last digits, Q1_0 and Q2_0. Scales are products of an f16 and a short integer, exact in f32 together with the code,
// so that a fused multiply-add changes nothing.

import type { GgmlTypeName } from '../../../formats/format.ts';
import { iq4Values } from '../../../formats/ggml/iq4.ts';
import { ggmlType } from '../../../formats/ggml/types.ts';

/** Text for a type: `o` is the first byte of the block, `i` the first of the eight values; ends in a return. */
type Decode = (p: string) => string;

/** Bytes i, i + 1, … at `at`, shifted and masked. */
const field = (p: string, at: string, shift: string, mask: number) =>
  `let at = ${at};
  let shift = vec4u(${shift});
  var low = (bytesOf(${p}Word(at)) >> shift) & vec4u(${mask}u);
  var high = (bytesOf(${p}Word(at + 4u)) >> shift) & vec4u(${mask}u);`;

/** The fifth bits of eight values from one byte of a mask. */
const fifthBits = (p: string, at: string) => `let mask = ${p}Byte(${at});
  low |= ((vec4u(mask) >> vec4u(0u, 1u, 2u, 3u)) & vec4u(1u)) << vec4u(4u);
  high |= ((vec4u(mask) >> vec4u(4u, 5u, 6u, 7u)) & vec4u(1u)) << vec4u(4u);`;

/** More bits of the codes from another field. */
const moreBits = (p: string, at: string, shift: string, mask: number, up: number) => `let moreAt = ${at};
  low |= ((bytesOf(${p}Word(moreAt)) >> vec4u(${shift})) & vec4u(${mask}u)) << vec4u(${up}u);
  high |= ((bytesOf(${p}Word(moreAt + 4u)) >> vec4u(${shift})) & vec4u(${mask}u)) << vec4u(${up}u);`;

const scaled = (offset: number) =>
  `return Eight((vec4f(low) - vec4f(${offset}.0)) * d, (vec4f(high) - vec4f(${offset}.0)) * d);`;
const affine = 'return Eight(vec4f(low) * d + vec4f(m), vec4f(high) * d + vec4f(m));';
const half = (p: string, at: string) => `f16Value(${p}Half(${at}))`;

/** Q4_K and Q5_K: six-bit scales and minima of eight sub-blocks in twelve bytes. */
const k45 =
  (codesAt: number): Decode =>
  (p) =>
    `let j = i >> 5u;
  let at0 = o + 4u + (j & 3u);
  let first = ${p}Byte(at0);
  let second = ${p}Byte(at0 + 4u);
  let third = ${p}Byte(at0 + 8u);
  let upper = j > 3u;
  let scale = select(first & 63u, (third & 15u) | ((first >> 6u) << 4u), upper);
  let offset = select(second & 63u, (third >> 4u) | ((second >> 6u) << 4u), upper);
  let d = ${half(p, 'o')} * f32(scale);
  let m = -(${half(p, 'o + 2u')} * f32(offset));
  ${field(p, `o + ${codesAt}u + 32u * (j >> 1u) + (i & 31u)`, '4u * (j & 1u)', 15)}
  ${codesAt === 48 ? moreBits(p, 'o + 16u + (i & 31u)', 'j', 1, 4) : ''}
  ${affine}`;

const quarter = (p: string, codesAt: number) =>
  field(p, `o + ${codesAt}u + 32u * (i >> 7u) + (i & 31u)`, '2u * ((i >> 5u) & 3u)', 3);

const iq4Return = 'return Eight(iq4(low) * d, iq4(high) * d);';

const decoders: Readonly<Record<GgmlTypeName, Decode>> = {
  q4_0: (p) => `let d = ${half(p, 'o')};
  ${field(p, 'o + 2u + (i & 15u)', '4u * (i >> 4u)', 15)}
  ${scaled(8)}`,
  q4_1: (p) => `let d = ${half(p, 'o')};
  let m = ${half(p, 'o + 2u')};
  ${field(p, 'o + 4u + (i & 15u)', '4u * (i >> 4u)', 15)}
  ${affine}`,
  q5_0: (p) => `let d = ${half(p, 'o')};
  ${field(p, 'o + 6u + (i & 15u)', '4u * (i >> 4u)', 15)}
  ${fifthBits(p, 'o + 2u + (i >> 3u)')}
  ${scaled(16)}`,
  q5_1: (p) => `let d = ${half(p, 'o')};
  let m = ${half(p, 'o + 2u')};
  ${field(p, 'o + 8u + (i & 15u)', '4u * (i >> 4u)', 15)}
  ${fifthBits(p, 'o + 4u + (i >> 3u)')}
  ${affine}`,
  q8_0: (p) => `let d = ${half(p, 'o')};
  return Eight(
    signedBytes(bytesOf(${p}Word(o + 2u + i))) * d,
    signedBytes(bytesOf(${p}Word(o + 6u + i))) * d);`,
  q2_k: (p) => `let scales = ${p}Byte(o + (i >> 4u));
  let d = ${half(p, 'o + 80u')} * f32(scales & 15u);
  let m = -(${half(p, 'o + 82u')} * f32(scales >> 4u));
  ${quarter(p, 16)}
  ${affine}`,
  q3_k: (p) => `let j = i >> 4u;
  let lowScale = select(${p}Byte(o + 88u + j) >> 4u, ${p}Byte(o + 96u + (j & 7u)) & 15u, j < 8u);
  let highScale = (${p}Byte(o + 104u + (j & 3u)) >> (2u * (j >> 2u))) & 3u;
  let d = ${half(p, 'o + 108u')} * (f32(lowScale | (highScale << 4u)) - 32.0);
  ${quarter(p, 32)}
  ${moreBits(p, 'o + (i & 31u)', 'i >> 5u', 1, 2)}
  ${scaled(4)}`,
  q4_k: k45(16),
  q5_k: k45(48),
  q6_k: (p) => `let quarter = (i >> 5u) & 3u;
  let scale = bitcast<i32>(${p}Byte(o + 192u + (i >> 4u)) << 24u) >> 24u;
  let d = ${half(p, 'o + 208u')} * f32(scale);
  ${field(p, 'o + 64u * (i >> 7u) + 32u * (quarter & 1u) + (i & 31u)', '4u * (quarter >> 1u)', 15)}
  ${moreBits(p, 'o + 128u + 32u * (i >> 7u) + (i & 31u)', '2u * quarter', 3, 4)}
  ${scaled(32)}`,
  iq4_nl: (p) => `let d = ${half(p, 'o')};
  ${field(p, 'o + 2u + (i & 15u)', '4u * (i >> 4u)', 15)}
  ${iq4Return}`,
  iq4_xs: (p) => `let j = i >> 5u;
  let lowScale = (${p}Byte(o + 4u + (j >> 1u)) >> (4u * (j & 1u))) & 15u;
  let highScale = (${p}Half(o + 2u) >> (2u * j)) & 3u;
  let d = ${half(p, 'o')} * (f32(lowScale | (highScale << 4u)) - 32.0);
  ${field(p, 'o + 8u + 16u * j + (i & 15u)', '4u * ((i >> 4u) & 1u)', 15)}
  ${iq4Return}`,
  tq1_0: (p) => `let d = ${half(p, 'o + 52u')};
  var digit = i / 32u;
  var at = o + i % 32u;
  if (i >= 160u) { digit = (i - 160u) / 16u; at = o + 32u + i % 16u; }
  if (i >= 240u) { digit = (i - 240u) / 4u; at = o + 48u; }
  let power = array<u32, 5>(1u, 3u, 9u, 27u, 81u);
  let last = i >= 240u; /* four bytes hold the last digits: the second four values are the next digit of the same ones */
  let low = bytesOf(${p}Word(at)) * vec4u(power[digit]);
  let high = bytesOf(${p}Word(select(at + 4u, at, last))) * vec4u(power[select(digit, digit + 1u, last)]);
  return Eight(
    (vec4f(((low & vec4u(255u)) * vec4u(3u)) >> vec4u(8u)) - vec4f(1.0)) * d,
    (vec4f(((high & vec4u(255u)) * vec4u(3u)) >> vec4u(8u)) - vec4f(1.0)) * d);`,
  tq2_0: (p) => `let d = ${half(p, 'o + 64u')};
  ${quarter(p, 0)}
  ${scaled(1)}`,
  'ggml-mxfp4': (p) => `let e = ${p}Byte(o);
  let d = bitcast<f32>(select(0x00200000u << (e & 1u), (e - 1u) << 23u, e > 1u));
  ${field(p, 'o + 1u + (i & 15u)', '4u * (i >> 4u)', 15)}
  return Eight(doubledFp4(low) * d, doubledFp4(high) * d);`,
  'ggml-nvfp4': (p) => `let code = ${p}Byte(o + (i >> 4u));
  let e = (code >> 3u) & 15u;
  let normal = bitcast<f32>(((code & 0x7fu) << 20u) + ${119 << 23}u);
  let d = select(select(normal, f32(code & 7u) * 0.0009765625, e == 0u), 0.0, code == 0x7fu);
  ${field(p, 'o + 4u + 8u * (i >> 4u)', '4u * ((i >> 3u) & 1u)', 15)}
  return Eight(doubledFp4(low) * d, doubledFp4(high) * d);`,
  q1_0: (p) => `let d = ${half(p, 'o')};
  let bits = vec4u(${p}Byte(o + 2u + (i >> 3u)));
  let low = (bits >> vec4u(0u, 1u, 2u, 3u)) & vec4u(1u);
  let high = (bits >> vec4u(4u, 5u, 6u, 7u)) & vec4u(1u);
  return Eight((vec4f(low + low) - vec4f(1.0)) * d, (vec4f(high + high) - vec4f(1.0)) * d);`,
  q2_0: (p) => `let d = ${half(p, 'o')};
  let bits = vec4u(${p}Half(o + 2u + (i >> 2u)));
  let low = (bits >> vec4u(0u, 2u, 4u, 6u)) & vec4u(3u);
  let high = (bits >> vec4u(8u, 10u, 12u, 14u)) & vec4u(3u);
  ${scaled(1)}`,
};

const iq4Source = `
const iq4Values = array<f32, 16>(${[...iq4Values].map((v) => `${v}.0`).join(', ')});
fn iq4(codes: vec4u) -> vec4f {
  return vec4f(iq4Values[codes.x], iq4Values[codes.y], iq4Values[codes.z], iq4Values[codes.w]);
}
`;

/** Declarations that several decoders of one module share. */
export const ggmlSharedSource = (types: readonly GgmlTypeName[]) =>
  types.some((type) => type.startsWith('iq4')) ? iq4Source : '';

/** `PREFIXEight(row, col) -> Eight` of a matrix of `cols` columns; needs accessSource(prefix, …) and valueSource. */
export function ggmlSource(prefix: string, type: GgmlTypeName, cols: number): string {
  const { block, bytes } = ggmlType(type);
  return `
fn ${prefix}Eight(row: u32, col: u32) -> Eight {
  let o = (row * ${cols / block}u + col / ${block}u) * ${bytes}u;
  let i = col % ${block}u;
  ${decoders[type](prefix)}
}
`;
}
