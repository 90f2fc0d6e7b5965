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
export function writeUnit(spec: QuantSpec, { values, words }: Unit, y: string, index: string, first: string): string {
  const bits = elementBits(spec.element);
  const straddle = `if ((place & 31u) + ${bits}u > 32u) { out[(place >> 5u) + 1u] |= code >> (32u - (place & 31u)); }`;
  return `var out = array<u32, ${words}>();
    for (var j = 0u; j < ${values}u; j++) {
      let code = codeOf(held[${first} + (j >> 2u)][j & 3u], tile, (${index}) * ${values}u + j);
      let place = j * ${bits}u;
      out[place >> 5u] |= code << (place & 31u);
      ${32 % bits === 0 ? '' : straddle}
    }
    for (var j = 0u; j < ${words}u; j++) { ${y}[(${index}) * ${words}u + j] = out[j]; }`;
}
