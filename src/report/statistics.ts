// What seeds say about a difference: paired differences, Student's t, and the three verdicts.
//
// Schemes that are trained from the same first weights on the same batches differ less from each other than seeds do, so
// the losses of two schemes are compared seed by seed. With d the differences of S seeds,
//   mean ± t(0.95, S − 1) · sd(d) / √S
// is the 90 % interval of their mean for normal noise; a claim is tested on one of its ends, at 5 %.

import type { Claim, Verdict } from './reproduction.ts';

export interface Interval {
  readonly mean: number;
  /** Standard error of the mean; NaN of one value. */
  readonly error: number;
  /** Ends of the 90 % interval; infinite for one value. */
  readonly low: number;
  readonly high: number;
  readonly count: number;
}

/** P(|T| ≤ t) for Student's T with a whole number of degrees of freedom (Abramowitz and Stegun 26.7.3 and 26.7.4). */
export function studentWithin(t: number, freedom: number): number {
  const angle = Math.atan(t / Math.sqrt(freedom));
  const cosine = Math.cos(angle);
  let term = freedom % 2 === 1 ? cosine : 1;
  let sum = freedom === 1 ? 0 : term;
  for (let k = freedom % 2 === 1 ? 3 : 2; k < freedom; k += 2) {
    term *= ((k - 1) / k) * cosine * cosine;
    sum += term;
  }
  const tail = Math.sin(angle) * sum;
  return freedom % 2 === 1 ? (2 / Math.PI) * (angle + tail) : tail;
}

/** The t for which P(T ≤ t) is `p` > 1/2. */
export function studentQuantile(p: number, freedom: number): number {
  let [low, high] = [0, 1];
  while (studentWithin(high, freedom) < 2 * p - 1) high *= 2;
  for (let i = 0; i < 60; i++) {
    const middle = (low + high) / 2;
    if (studentWithin(middle, freedom) < 2 * p - 1) low = middle;
    else high = middle;
  }
  return (low + high) / 2;
}

/** Mean of independent values and its 90 % interval. */
export function interval(values: readonly number[]): Interval {
  const count = values.length;
  const mean = values.reduce((sum, v) => sum + v, 0) / count;
  const error = deviation(values) / Math.sqrt(count);
  const reach = count > 1 ? studentQuantile(0.95, count - 1) * error : Number.POSITIVE_INFINITY;
  return { mean, error, low: mean - reach, high: mean + reach, count };
}

/** Standard deviation, with n − 1; NaN of one value. */
export function deviation(values: readonly number[]): number {
  const mean = values.reduce((sum, v) => sum + v, 0) / values.length;
  return Math.sqrt(values.reduce((sum, v) => sum + (v - mean) ** 2, 0) / (values.length - 1));
}

/** Is the mean above a bound, below it, or neither for sure? */
export function isAbove({ low, high }: Interval, bound: number): Verdict {
  if (low > bound) return 'holds';
  return high < bound ? 'does not hold' : 'within noise';
}

/** The same for "below". */
export function isBelow({ low, high }: Interval, bound: number): Verdict {
  if (high < bound) return 'holds';
  return low > bound ? 'does not hold' : 'within noise';
}

/** Is the mean between two bounds? */
export function isBetween(found: Interval, [least, most]: readonly [number, number]): Verdict {
  const ends = [isAbove(found, least), isBelow(found, most)];
  return ends.find((v) => v === 'does not hold') ?? ends.find((v) => v === 'within noise') ?? 'holds';
}

/** A claim about a mean, with the interval as its ground; `of` names what was repeated. */
export function intervalClaim(
  claim: string,
  expected: string,
  found: Interval,
  verdict: Verdict,
  of: string,
  print = (v: number) => v.toFixed(4),
): Claim {
  const { mean, error, low, high, count } = found;
  const note =
    count > 1
      ? `mean of ${count} ${of} ± ${print(error)} (standard error); 90 % interval ${print(low)} … ${print(high)}`
      : `${of}: one only, which says nothing of noise`;
  return { claim, expected, found: print(mean), verdict, note };
}
