// Uniform integers: nearest code to x / step, with the clamping range of each convention.
//
// Codes follow the magnitude: |x| is compared with fl(step × (n + 1/2)), rounded to float32 (see minifloat.ts for why
// there is no division). Ties follow the magnitude's rule; half-up looks at the sign of the quotient.

import type { Rounding } from './format.ts';
import { roundsUp } from './minifloat.ts';

/** Smallest and largest code of a signed b-bit integer: ±(2^(b−1) − 1), or with one more negative code. */
export function signedRange(bits: number, restricted: boolean): [number, number] {
  const max = 2 ** (bits - 1) - 1;
  return [restricted ? -max : -max - 1, max];
}

/** The integer nearest to x / step, clamped to [min, max]; 0 for a zero step. The step may be negative. */
export function encodeInt(
  x: number,
  step: number,
  min: number,
  max: number,
  rounding: Rounding = 'nearest-even',
  u = 0,
): number {
  if (step === 0) return 0;
  const a = Math.abs(x);
  const d = Math.abs(step);
  const negative = x < 0 !== step < 0;
  const limit = negative ? -min : max;
  let n = Math.floor(a / d);
  if (n >= limit) return negative ? -limit : limit;
  if (roundsUp(a, d, n, n + 1, (n & 1) === 0, negative, rounding, u)) n++;
  return negative ? -n : n;
}
