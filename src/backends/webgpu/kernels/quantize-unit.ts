// The piece of work of the one-pass quantizers: as many neighbouring values as fill whole words of codes.
//
// Eight values for four bits, four for eight, sixteen or thirty-two for other widths; read as vec4, kept in registers
// between the statistics and the codes, written as words.

import type { QuantSpec } from '../../../formats/format.ts';
import { elementBits } from '../../../formats/table.ts';

export interface Unit {
  readonly values: number;
  readonly vectors: number;
  readonly words: number;
}

export function unitOf(spec: QuantSpec): Unit {
  const bits = elementBits(spec.element);
  let values = 4;
  while ((values * bits) % 32 !== 0) values *= 2;
  return { values, vectors: values / 4, words: (values * bits) / 32 };
}

/** Statements that read unit `index` of x into `held` from vector `first` on and gather it into `own`. */
export const readUnit = ({ vectors }: Unit, x: string, index: string, first: string) =>
  `for (var j = 0u; j < ${vectors}u; j++) {
      let four = ${x}[(${index}) * ${vectors}u + j];
      held[${first} + j] = four;
      own = gather(gather(gather(gather(own, four.x, 0u), four.y, 0u), four.z, 0u), four.w, 0u);
    }`;

/** Statements that round unit `index`, held from vector `first` on, by `tile` and write it to y. */
export function writeUnit(spec: QuantSpec, unit: Unit, y: string, index: string, first: string): string {
  const { values, vectors, words } = unit;
  const bits = elementBits(spec.element);
  return `var out = array<u32, ${words}>();
    for (var j = 0u; j < ${vectors}u; j++) {
      let four = codesOf(held[${first} + j], tile, (${index}) * ${values}u + 4u * j);
      ${32 % bits === 0 ? packWithin(bits) : packAcross(bits)}
    }
    for (var j = 0u; j < ${words}u; j++) { ${y}[(${index}) * ${words}u + j] = out[j]; }`;
}

/** Four codes that lie in one word. */
const packWithin = (bits: number) => `let place = j * ${4 * bits}u;
      let shifted = four << vec4u(0u, ${bits}u, ${2 * bits}u, ${3 * bits}u);
      out[place >> 5u] |= (shifted.x | shifted.y | shifted.z | shifted.w) << (place & 31u);`;

const packAcross = (bits: number) => `for (var k = 0u; k < 4u; k++) {
        let place = (4u * j + k) * ${bits}u;
        out[place >> 5u] |= four[k] << (place & 31u);
        if ((place & 31u) + ${bits}u > 32u) { out[(place >> 5u) + 1u] |= four[k] >> (32u - (place & 31u)); }
      }`;

/** Declares `marks`: one bit for each value held that is smaller in magnitude than `limit`. */
export const markUnit = ({ vectors }: Unit, limit: string) => `var marks = 0u;
  for (var j = 0u; j < ${vectors}u; j++) {
    let inside = bitcast<vec4f>(held[j] & vec4u(0x7fffffffu)) < vec4f(${limit});
    let four = select(vec4u(), vec4u(1u, 2u, 4u, 8u), inside);
    marks |= (four.x | four.y | four.z | four.w) << (4u * j);
  }`;

/** tileSize and tileValue (wgsl/encode.ts) of `size` neighbouring values from number `tileFirst` on, a multiple of 4. */
export const tileAccess = (x: string, size: number) => `
var<private> tileFirst: u32;
fn tileSize() -> u32 { return ${size}u; }
fn tileValue(at: u32) -> u32 { return ${x}[(tileFirst + at) >> 2u][at & 3u]; }
`;

/** Where and what storeShared writes. */
export interface SharedStore {
  readonly array: string;
  readonly value: string;
  /** Width of a value: 4, 8, 16 or 32. */
  readonly bits: number;
  /** First word of the array. */
  readonly first: number;
  /** Every so many threads have one value, which the first of them writes. */
  readonly share: number;
  /** Values of all workgroups. */
  readonly total: number;
  /** Threads of a workgroup. */
  readonly threads: number;
}

/**
 * Statements that write one value of every `share` threads as whole words, neighbours in one word. The kernel declares
 * `var<workgroup> codes: array<u32, threads>` and `alive`, false for threads beyond the data.
 */
export function storeShared({ array, value, bits, first, share, total, threads }: SharedStore): string {
  const groups = threads / share;
  if (bits === 32)
    return `if (thread % ${share}u == 0u && item * ${groups}u + thread / ${share}u < ${total}u) {
    ${array}[${first}u + item * ${groups}u + thread / ${share}u] = ${value};
  }`;
  const per = 32 / bits;
  const parts = Array.from({ length: per }, (_, k) => `(codes[thread * ${per}u + ${k}u] << ${bits * k}u)`).join(' | ');
  return `workgroupBarrier();
  if (thread % ${share}u == 0u) { codes[thread / ${share}u] = select(0u, ${value}, alive); }
  workgroupBarrier();
  if (thread < ${groups / per}u && (item * ${groups}u + thread * ${per}u) < ${total}u) {
    ${array}[${first}u + item * ${groups / per}u + thread] = ${parts};
  }`;
}
