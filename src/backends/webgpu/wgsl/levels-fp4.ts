// E2M1 codes of four values at a time, to nearest, by comparing with thresholds that a tile computes once.
//
// The thresholds are fl(step × midpoint), the numbers that the reference compares with; a search of three comparisons finds
// the code. Ties go up where the code above is even: the first two comparisons meet such ones only, the last none. On an
// H100 this is faster than search-fp4.ts as long as registers hold the seven thresholds (0.72 against 0.67 of the rate of a
// copy), which they no longer do beside the sums that scales by deviation need (0.61 against 0.66).

import type { QuantSpec } from '../../../formats/format.ts';
import { floatText } from './bits.ts';

const midpoints = [0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5];

/** Which side a tie takes where the code above is even. */
const toEven = (rounding: QuantSpec['rounding']) => (rounding === 'half-to-zero' ? '>' : '>=');

/** Declares what fp4SearchSource (search-fp4.ts) does, for roundings to nearest. */
export const fp4LevelsSource = ({ rounding }: QuantSpec): string => `
struct Levels { one: f32, two: f32, three: f32, four: f32, five: f32, six: f32, seven: f32 }
fn levelsOf(step: f32) -> Levels {
  /* a tile of zeros has the step 0: nothing reaches these levels */
  let s = select(step, 3e38, step == 0.0);
  return Levels(${midpoints.map((m) => `s * ${floatText(m)}`).join(', ')});
}
fn fp4Of(v: vec4f, l: Levels, element: u32) -> u32 {
  let a = abs(v);
  let top = a ${toEven(rounding)} vec4f(l.four);
  let second = a ${toEven(rounding)} select(vec4f(l.two), vec4f(l.six), top);
  let last = a ${rounding === 'half-away' ? '>=' : '>'} select(
    select(vec4f(l.one), vec4f(l.three), second), select(vec4f(l.five), vec4f(l.seven), second), top);
  let codes = select(vec4u(), vec4u(4u), top) | select(vec4u(), vec4u(2u), second) | select(vec4u(), vec4u(1u), last) |
    ((bitcast<vec4u>(v) >> vec4u(28u)) & vec4u(8u));
  return codes.x | (codes.y << 4u) | (codes.z << 8u) | (codes.w << 12u);
}
`;
