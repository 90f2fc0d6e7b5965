// E2M1 codes of four values at a time, by comparing with levels that a tile computes once.
//
// encode-fp4.ts counts the thresholds that |x| passes, seven comparisons a value; where a thread rounds many values of a
// tile, a search of three is less work. The thresholds are the same numbers: to nearest, fl(step × midpoint), at which ties
// go up where the code above is even (the first two comparisons of the search meet such ones only, the last none). By
// chance: the smallest f32 from step × level on, below which |x| does not reach the level, then fl(step × fl(low + u · gap)).

import type { QuantSpec } from '../../../formats/format.ts';
import { floatText } from './bits.ts';

/** Whether fp4SearchSource knows the element and the rounding of a spec. */
export const hasFp4Search = ({ element, rounding }: QuantSpec): boolean =>
  element === 'e2m1' && ['nearest-even', 'half-to-zero', 'half-away', 'stochastic'].includes(rounding);

const midpoints = [0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5];

/** All but the lowest of seven levels `l.one` … `l.seven`, found by comparisons; declares top, second and last. */
const search = (compare: string, last: string) => `let top = a ${compare} vec4f(l.four);
  let second = a ${compare} select(vec4f(l.two), vec4f(l.six), top);
  let last = a ${last} select(
    select(vec4f(l.one), vec4f(l.three), second), select(vec4f(l.five), vec4f(l.seven), second), top);`;

const magnitudes =
  'select(vec4u(), vec4u(4u), top) | select(vec4u(), vec4u(2u), second) | select(vec4u(), vec4u(1u), last)';

/* A tile of zeros has the step 0: nothing reaches these levels. */
const steady = 'let s = select(step, 3e38, step == 0.0);';

const nearest = (rounding: string) => `
fn levelsOf(step: f32) -> Levels {
  ${steady}
  return Levels(s, ${midpoints.map((m) => `s * ${floatText(m)}`).join(', ')});
}
fn magnitudesOf(a: vec4f, l: Levels, element: u32) -> vec4u {
  ${search(rounding === 'half-to-zero' ? '>' : '>=', rounding === 'half-away' ? '>=' : '>')}
  return ${magnitudes};
}
`;

const byChance = `
fn levelsOf(step: f32) -> Levels {
  ${steady}
  /* 1.5 s rounded up: what rounding to nearest took away shows in the exact difference from s */
  let rounded = unfused(vec4f(s * 1.5)).x;
  let half = bitcast<f32>(bitcast<u32>(rounded) + select(0u, 1u, rounded - s < s * 0.5));
  return Levels(s, s * 0.5, s, half, s * 2.0, half * 2.0, s * 4.0, half * 4.0);
}
fn magnitudesOf(a: vec4f, l: Levels, element: u32) -> vec4u {
  ${search('>=', '>=')}
  let u = uniformsOf(element);
  let gap = select(vec4f(0.5), select(vec4f(1.0), vec4f(2.0), second), top);
  let base = select(select(vec4f(0.0), vec4f(1.0), second), select(vec4f(2.0), vec4f(4.0), second), top);
  let low = base + select(vec4f(0.0), gap, last);
  let up = a > l.step * (low + u * gap);
  return min((${magnitudes}) + select(vec4u(), vec4u(1u), up), vec4u(7u));
}
`;

/**
 * Declares Levels, `levelsOf(step)` and `fp4Of(x, levels, element) -> u32`: the codes of four values, the first in the
 * lowest bits. `element`, the index of the first, counts random numbers (random.ts). Needs unfusedSource.
 */
export const fp4SearchSource = ({ rounding }: QuantSpec): string => `
struct Levels { step: f32, one: f32, two: f32, three: f32, four: f32, five: f32, six: f32, seven: f32 }
${rounding === 'stochastic' ? byChance : nearest(rounding)}
fn fp4Of(x: vec4f, l: Levels, element: u32) -> u32 {
  let bits = bitcast<vec4u>(x);
  let codes = magnitudesOf(abs(x), l, element) | ((bits >> vec4u(28u)) & vec4u(8u));
  return codes.x | (codes.y << 4u) | (codes.z << 8u) | (codes.w << 12u);
}
`;
