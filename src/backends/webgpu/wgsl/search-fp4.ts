// E2M1 codes of four values at a time: a guess from the bits of a quotient, settled by one exact comparison.
//
// In units of the step, x = max(|v|, |v|/2 + 1/2) / step has the code n of the level below |v| in exponent and highest
// mantissa bit, bits(x) = bits(1/2) + n · 2^22 + f · 2^22, and below them the part f of the way to the next level. With f
// replaced by f', the same bits stand for the point low + f' · gap = min(x', 2x' − 1), exactly. |v| goes up where it is above
// fl(step × point), the number that the reference compares with:
//
//   to nearest   f' = 1/2; where |v| equals it, by the rule for ties
//   by chance    f' = u, the random number, (h + 1/2) · 2^-16
//
// The quotient may be off by some units in the last place. Then n is off by one only next to a level, where the comparison
// leads to the same code from either side, as no point lies within 2^-17 of a gap from a level. From 6 steps on the guess is
// the level below 6. One step, one reciprocal a tile; encode-fp4.ts, which counts thresholds, is the independent way.

import type { QuantSpec } from '../../../formats/format.ts';
import { readsTile } from './encode-deviation.ts';
import { fp4LevelsSource } from './levels-fp4.ts';

/** Whether fp4Source knows the element and the rounding of a spec. */
export const hasFp4Search = ({ element, rounding }: QuantSpec): boolean =>
  element === 'e2m1' && ['nearest-even', 'half-to-zero', 'half-away', 'stochastic'].includes(rounding);

/** Whether `a` goes up from the level of `x`, past the point of `middle`. */
function passes(rounding: QuantSpec['rounding']): string {
  if (rounding === 'half-away') return 'a >= middle';
  if (rounding !== 'nearest-even') return 'a > middle';
  return '(a > middle) | ((a == middle) & ((x & vec4u(0x400000u)) != vec4u()))';
}

/**
 * Declares Levels, `levelsOf(step)` and `fp4Of(v, levels, element) -> u32`: the codes of four values, the first in the
 * lowest bits. `element`, the index of the first, counts random numbers (random.ts).
 */
export const fp4SearchSource = ({ rounding }: QuantSpec): string => `
struct Levels { step: f32, inverse: f32 }
fn levelsOf(step: f32) -> Levels {
  /* a tile of zeros has the step 0: nothing reaches these levels */
  let s = select(step, 3e38, step == 0.0);
  return Levels(s, 1.0 / s);
}
fn fp4Of(v: vec4f, l: Levels, element: u32) -> u32 {
  let a = abs(v);
  /* a sixth of the inverse might be subnormal */
  let part = saturate(a * l.inverse * 0.16666667);
  let x = bitcast<vec4u>(max(part * 5.9999995, part * 3.0 + 0.5));
  let point = bitcast<vec4f>((x & vec4u(0xffc00000u)) | ${rounding === 'stochastic' ? '(halvesOf(element) * 64u + 32u)' : 'vec4u(0x200000u)'});
  let middle = l.step * min(point, point + point - 1.0);
  let up = ${passes(rounding)};
  /* code in bits 28 … 30, sign above it */
  let n = (x << vec4u(6u)) + select(vec4u(0x40000000u), vec4u(0x50000000u), up);
  let c = n | (bitcast<vec4u>(v) & vec4u(0x80000000u));
  var codes = c.w >> 28u;
  codes = (codes << 4u) | (c.z >> 28u);
  codes = (codes << 4u) | (c.y >> 28u);
  return (codes << 4u) | (c.x >> 28u);
}
`;

/** The faster way for a spec. */
export const fp4Source = (spec: QuantSpec): string =>
  spec.rounding === 'stochastic' || readsTile(spec) ? fp4SearchSource(spec) : fp4LevelsSource(spec);
