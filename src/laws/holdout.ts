// Does a law extrapolate? Fit it on some runs, predict the others, report the errors and how far they lie outside.

import { userError } from '../errors.ts';
import { type Fit, type FitOptions, fitLaw } from './fit.ts';
import { type Law, type Observation, predict } from './law.ts';

export interface HoldOut {
  fit: Fit;
  predictions: { label: string; observed: number; predicted: number }[];
  /** Mean of |predicted/observed − 1|, and the signed mean: negative when the law is optimistic. */
  meanError: number;
  bias: number;
  /** Largest held-out size and tokens as multiples of the largest fitted ones. */
  reach: { n: number; d: number };
}

/**
 * Fits on the runs for which `isHeldOut` is false and predicts the rest; diverged runs take no part.
 *
 * @example extrapolate(chinchilla, runs, (r) => r.n > 1e9).meanError;
 * @throws SubbyteError `law-data` when nothing is held out, and what `fitLaw` throws.
 */
export function extrapolate(
  law: Law,
  runs: readonly (Observation & { diverged?: boolean; reason?: string })[],
  isHeldOut: (run: Observation) => boolean,
  options: FitOptions = {},
): HoldOut {
  const held = runs.filter((r) => isHeldOut(r) && !r.diverged);
  if (held.length === 0)
    throw userError({
      code: 'law-data',
      op: `extrapolate ${law.id}`,
      problem: 'no run is held out',
      fix: 'hold out the largest runs',
    });
  const fitted = fitLaw(
    law,
    runs.filter((r) => !isHeldOut(r)),
    options,
  );
  const predictions = held.map((r) => ({
    label: r.label,
    observed: r.observed,
    predicted: predict(law, fitted.values, r),
  }));
  const errors = predictions.map((p) => p.predicted / p.observed - 1);
  const mean = (values: number[]) => values.reduce((a, b) => a + b, 0) / values.length;
  const reach = (axis: 'n' | 'd') =>
    Math.max(...held.map((r) => r[axis])) / Math.max(...fitted.runs.map((r) => r[axis]));
  return {
    fit: fitted,
    predictions,
    meanError: mean(errors.map(Math.abs)),
    bias: mean(errors),
    reach: { n: reach('n'), d: reach('d') },
  };
}
