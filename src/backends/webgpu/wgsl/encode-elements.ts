// Element codes in WGSL: value and tile → code, with the bytes of src/formats/int.ts and minifloat.ts.
//
// A code is found by a quotient that may be off by a few units in the last place, then settled by comparing |x| with
// fl(step × midpoint) and its like, as the reference does; a wrong neighbour can only be guessed next to a value of the
// grid, where the comparison corrects it. Stochastic rounding needs the exact lower neighbour, so there step × value is
// compared with |x| without rounding. E2M1 has a way of its own (encode-fp4.ts).

import type { QuantSpec, Rounding } from '../../../formats/format.ts';
import { signedRange } from '../../../formats/int.ts';
import { maxMagnitudeCode } from '../../../formats/minifloat.ts';
import {
  elementBits,
  intBits,
  isInt,
  isMinifloat,
  type MinifloatParameters,
  minifloats,
} from '../../../formats/table.ts';
import { floatText, minifloatSource } from './bits.ts';
import { fp4Source } from './encode-fp4.ts';

/** `reaches(a, step, value) -> bool`: step × value ≤ a, without rounding the product; values have eight bits. */
const reachesSource = `
fn reaches(a: f32, step: f32, value: f32) -> bool {
  let product = step * value;
  if (product != a || value == 0.0) { return product <= a; }
  let exact = normalized(bitcast<u32>(step)).y * (normalized(bitcast<u32>(value)).y >> 16u);
  let shift = 8u - countLeadingZeros(exact);
  /* The rounded product is a: it was rounded down where its bits are the upper ones of the exact product. */
  return (exact & ((1u << shift) - 1u)) == 0u || (exact >> shift) != normalized(bitcast<u32>(a)).y;
}
`;

/** Statements that move `n`, near the lower neighbour of a, to the result. `value(n)`: the value of a magnitude code. */
function settle(rounding: Rounding, value: (n: string) => string, odd: string): string {
  const middle = `step * (0.5 * (${value('n')} + ${value('n + 1u')}))`;
  switch (rounding) {
    case 'stochastic':
      return `if (!reaches(a, step, ${value('n')})) { n -= 1u; }
  else if (n < last && reaches(a, step, ${value('n + 1u')})) { n += 1u; }
  if (n < last) {
    let low = ${value('n')};
    if (a > step * (low + u * (${value('n + 1u')} - low))) { n += 1u; }
  }`;
    case 'floor':
      return `if (n > 0u && a < step * ${value('n')}) { n -= 1u; }
  else if (n < last && a >= step * ${value('n + 1u')}) { n += 1u; }`;
    default: {
      const tie = { 'nearest-even': odd, 'half-away': 'true', 'half-up': '!negative', 'half-to-zero': 'false' }[
        rounding
      ];
      return `let middle = ${middle};
  if (n < last && (a > middle || (a == middle && ${tie}))) { n += 1u; }`;
    }
  }
}

const parameters = 'a: f32, step: f32, inverse: f32, last: u32, negative: bool, u: f32';

/** `magnitudeOf(…) -> u32`: code of |x| = a, at most `last`. */
function minifloatMagnitude(p: MinifloatParameters, rounding: Rounding): string {
  const { mantissaBits: M, bias } = p;
  const magnitudes = { ...p, specials: 'finite', signed: false, bits: p.bits + 1 } as const;
  return `${minifloatSource('magnitudeValues', magnitudes)}
fn magnitudeValue(code: u32) -> f32 { return magnitudeValues(vec4u(code)).x; }
fn magnitudeOf(${parameters}) -> u32 {
  let t = a * inverse;
  let normal = (bitcast<u32>(t) >> ${23 - M}u) - ${(127 - bias) << M}u;
  let small = u32(min(t * ${floatText(2 ** (M + bias - 1))}, ${2 ** M}.0));
  var n = min(select(normal, small, t < ${floatText(2 ** (1 - bias))}), last);
  ${settle(rounding, (n) => `magnitudeValue(${n})`, '(n & 1u) == 1u')}
  return n;
}
`;
}

const wholeMagnitude = (rounding: Rounding) => `
fn magnitudeOf(${parameters}) -> u32 {
  var n = u32(min(a * inverse, f32(last)));
  ${settle(rounding, (n) => `f32(${n})`, '(n & 1u) == 1u')}
  return n;
}
`;

/** `roundedTo(x, tile, u) -> u32`: code of a value from its bits; u is its random number. */
function codeSource(spec: QuantSpec): string {
  const { element, rounding } = spec;
  const bits = elementBits(element);
  const mask = 2 ** bits - 1;
  const open = 'fn roundedTo(x: u32, tile: Tile, u: f32) -> u32 {';
  if (isMinifloat(element)) {
    const p = minifloats[element];
    const sign = `(x >> 31u) << ${bits - 1}u`;
    const negative = p.specials === 'fnuz' ? `select(${sign}, 0u, n == 0u)` : sign;
    return `${minifloatMagnitude(p, rounding)}
${open}
  if (tile.step == 0.0) { return ${p.specials === 'fnuz' ? '0u' : sign}; }
  let n = magnitudeOf(bitcast<f32>(x & 0x7fffffffu), tile.step, tile.inverse, ${maxMagnitudeCode(p)}u, (x >> 31u) == 1u, u);
  return n | (${negative});
}
`;
  }
  if (spec.zeroPoint !== 'none')
    return `${wholeMagnitude(rounding)}
${open}
  var q = 0;
  let y = bitcast<f32>(x) - tile.minimum;
  if (tile.step != 0.0) {
    let n = i32(magnitudeOf(abs(y), tile.step, tile.inverse, ${mask}u, y < 0.0, u));
    q = select(n, -n, y < 0.0);
  }
  return u32(clamp(q + tile.zero, 0, ${mask}));
}
`;
  const [lowest, highest] = isInt(element) ? signedRange(intBits[element], spec.range === 'restricted') : [0, 0];
  return `${wholeMagnitude(rounding)}
${open}
  if (tile.step == 0.0) { return 0u; }
  let negative = ((x ^ bitcast<u32>(tile.step)) >> 31u) == 1u;
  let last = select(${highest}u, ${-lowest}u, negative);
  let n = magnitudeOf(bitcast<f32>(x & 0x7fffffffu), abs(tile.step), abs(tile.inverse), last, negative, u);
  return select(n, 0u - n, negative) & ${mask}u;
}
`;
}

/** `roundedFour(x, tile, u) -> vec4u` by roundedTo. */
const foursSource = `
fn roundedFour(x: vec4u, tile: Tile, u: vec4f) -> vec4u {
  return vec4u(roundedTo(x.x, tile, u.x), roundedTo(x.y, tile, u.y), roundedTo(x.z, tile, u.z), roundedTo(x.w, tile, u.w));
}
`;

/** Declares codeOf and codesOf of a spec; stochastic rounding needs randomSource. */
export function elementsSource(spec: QuantSpec): string {
  const stochastic = spec.rounding === 'stochastic';
  const fp4 = spec.element === 'e2m1';
  const general = () => `${stochastic ? reachesSource : ''}${codeSource(spec)}${foursSource}`;
  return `${fp4 ? fp4Source(spec.rounding) : general()}
fn codeOf(x: u32, tile: Tile, element: u32) -> u32 {
  return ${fp4 ? 'roundedFour(vec4u(x), tile, vec4f(' : 'roundedTo(x, tile, '}${stochastic ? 'uniformOf(element)' : '0.0'}${fp4 ? ')).x' : ')'};
}
fn codesOf(x: vec4u, tile: Tile, element: u32) -> vec4u {
  return roundedFour(x, tile, ${stochastic ? 'uniformsOf(element)' : 'vec4f()'});
}
`;
}
