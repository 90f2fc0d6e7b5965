// How well runs can determine a law at best: the Cramér-Rao bound.
//
// With independent Gaussian noise of standard deviation s on each residual, no unbiased estimator of a quantity q(θ) has
// a smaller standard error than s·√(∇qᵀ(JᵀJ)⁻¹∇q), J the derivatives of the predictions (of their logarithms for log
// residuals). It tells before any training whether planned runs can answer a question, and whether a fit does as well as
// the data allow. Parameters enter as θ·(1 + u), which keeps the matrix well scaled.

import { userError } from '../errors.ts';
import { solvePositive } from './dense.ts';
import { type Law, type Point, vectorOf } from './law.ts';

type Values = Readonly<Record<string, number>>;

export interface RunNoise {
  /** Standard deviation of a residual: relative for `log`, else nats. */
  noise: number;
  residual?: 'log' | 'nats';
}

/**
 * The least standard error of a quantity that is a function of the law's parameters, all of them free.
 *
 * @example attainableError(chinchilla, values, points, { noise: 0.001 }, (v) => v.alpha)
 * @throws SubbyteError `law-data` when the points do not determine the parameters
 */
export function attainableError(
  law: Law,
  values: Values,
  points: readonly Point[],
  { noise, residual = 'log' }: RunNoise,
  quantity: (values: Values) => number,
): number {
  const at = vectorOf(law, values);
  const p = at.length;
  const fisher = new Float64Array(p * p);
  const gradient = new Float64Array(p);
  for (const point of points) {
    const predicted = law.evaluate(at, point, gradient);
    const row = gradient.map((g, i) => (g * at[i]!) / (residual === 'log' ? predicted : 1));
    for (let a = 0; a < p; a++) for (let b = 0; b < p; b++) fisher[a * p + b]! += row[a]! * row[b]!;
  }
  const h = 1e-6;
  const slope = Float64Array.from(law.parameters, ({ name }) => {
    const moved = (u: number) => quantity({ ...values, [name]: values[name]! * (1 + u) });
    return (moved(h) - moved(-h)) / (2 * h);
  });
  const solved = solvePositive(fisher, slope);
  if (!solved)
    throw userError({
      code: 'law-data',
      op: law.id,
      problem: 'the points do not determine the parameters',
      got: `${points.length} points for ${p} parameters`,
      fix: 'add points with other sizes and tokens',
    });
  return noise * Math.sqrt(solved.reduce((sum, s, i) => sum + s * slope[i]!, 0));
}
