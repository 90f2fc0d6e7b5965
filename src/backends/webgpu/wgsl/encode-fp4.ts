// E2M1 codes in WGSL, four values at a time: a code is the number of thresholds that |x| passes.
//
//   nearest     fl(step · middle) between each level and the next; at a threshold the tie rule decides
//   floor       fl(step · level)
//   stochastic  the smallest f32 from step · level on gives the level below, then fl(step · fl(level + u · gap)) is passed or
//               not. Products with 0.5, 1, 2 and 4 are exact; those with 1.5, 3 and 6 are powers of two of one, rounded up.
//
// Seven comparisons a value instead of a search for its neighbour; thresholds are the same for all values of a tile. For
// normal steps the counts are the neighbours that src/formats/minifloat.ts finds by a quotient: a float32 above
// step · level is above every threshold below it.

import type { Rounding } from '../../../formats/format.ts';
import { floatText } from './bits.ts';

const levels = [0.5, 1, 1.5, 2, 3, 4, 6];
const middles = [0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5];

const count = (passed: readonly string[]) =>
  `var n = vec4u();
  ${passed.map((test) => `n += select(vec4u(), vec4u(1u), ${test});`).join('\n  ')}`;

const nearest = (tie: (i: number) => string) =>
  count(middles.map((middle, i) => tie(i).replaceAll('T', `vec4f(step * ${floatText(middle)})`)));

function magnitudes(rounding: Rounding): string {
  switch (rounding) {
    case 'nearest-even':
      return nearest((i) => (i % 2 === 0 ? 'a > T' : 'a >= T'));
    case 'half-away':
      return nearest(() => 'a >= T');
    case 'half-to-zero':
      return nearest(() => 'a > T');
    case 'half-up':
      return `let up = (x >> vec4u(31u)) == vec4u();
  ${nearest(() => '(a > T) | ((a == T) & up)')}`;
    case 'floor':
      return count(levels.map((level) => `a >= vec4f(step * ${floatText(level)})`));
    case 'stochastic':
      return `let r = unfused(vec4f(1.5 * step)).x;
  let half3 = bitcast<f32>(bitcast<u32>(r) + select(0u, 1u, r - step < 0.5 * step));
  ${count(levels.map((level) => `a >= vec4f(${level % 1.5 === 0 ? `half3 * ${floatText(level / 1.5)}` : `step * ${floatText(level)}`})`))}
  let gap = select(select(vec4f(2.0), vec4f(1.0), n < vec4u(6u)), vec4f(0.5), n < vec4u(4u));
  let passed = (a > step * (0.5 * doubledFp4(n) + u * gap)) & (n < vec4u(7u));
  n += select(vec4u(), vec4u(1u), passed);`;
  }
}

/** `roundedFour(x, tile, u) -> vec4u`: codes of four values from their bits; u are their random numbers. */
export const fp4Source = (rounding: Rounding): string => `
fn roundedFour(x: vec4u, tile: Tile, u: vec4f) -> vec4u {
  let a = bitcast<vec4f>(x & vec4u(0x7fffffffu));
  let step = tile.step;
  ${magnitudes(rounding)}
  return select(n, vec4u(), step == 0.0) | ((x >> vec4u(31u)) << vec4u(3u));
}
`;
