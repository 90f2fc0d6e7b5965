// What the data leave open: parameters whose change the losses would not show.
//
// At the minimum the Jacobian J of the log residuals (with respect to the fit variables) gives the curvature JᵀJ. With
// its columns scaled to length one, an eigenvalue near zero is a direction along which the fit is flat; the parameters
// in that direction are not identified one by one. Rough standard errors come from the same matrix and a robust
// spread of the residuals: orders of magnitude, for real intervals use the bootstrap.

import { symmetricEigen } from './dense.ts';
import type { FitProblem } from './problem.ts';

export interface Identifiability {
  /** Ratio of the largest to the smallest eigenvalue of the scaled curvature; Infinity when one is zero. */
  condition: number;
  /** Free parameters in a flat direction, or without influence. */
  unidentified: string[];
  /** Free parameters that end on a bound. */
  atBound: string[];
  /** Rough standard error of each free parameter in its fit variable: relative for log parameters, else absolute. */
  roughErrors: Record<string, number>;
  /** Pairs whose estimates move together (|correlation| > 0.99): compare neither alone across fits. */
  entangled: [string, string, number][];
}

const flat = 1e-11;

export function identifiability(problem: FitProblem, x: Float64Array): Identifiability {
  const { parameters: p, count, free } = problem;
  const r = new Float64Array(count);
  const j = new Float64Array(count * p);
  problem.evaluate(x, r, j);
  const length = Float64Array.from({ length: p }, (_, a) => {
    let sum = 0;
    for (let i = 0; i < count; i++) sum += j[i * p + a]! ** 2;
    return Math.sqrt(sum);
  });
  const scaled = new Float64Array(p * p);
  for (let a = 0; a < p; a++)
    for (let b = 0; b < p; b++) {
      let sum = 0;
      for (let i = 0; i < count; i++) sum += j[i * p + a]! * j[i * p + b]!;
      scaled[a * p + b] = length[a] && length[b] ? sum / (length[a]! * length[b]!) : 0;
    }
  const { values, vectors } = symmetricEigen(scaled, p);
  const largest = Math.max(...values, 0);
  const smallest = Math.max(Math.min(...values), 0);

  const open = new Set<string>();
  const covariance = new Float64Array(p * p);
  for (let e = 0; e < p; e++) {
    const isFlat = values[e]! < flat * largest;
    for (let a = 0; a < p; a++) {
      if (isFlat && Math.abs(vectors[a * p + e]!) > 0.1) open.add(free[a]!);
      for (let b = 0; b < p; b++)
        covariance[a * p + b]! += (vectors[a * p + e]! * vectors[b * p + e]!) / Math.max(values[e]!, 1e-300);
    }
  }
  const spread = 1.4826 * median(r.map(Math.abs)) * Math.sqrt(count / Math.max(count - p, 1));
  const roughErrors: Record<string, number> = {};
  const entangled: [string, string, number][] = [];
  for (let a = 0; a < p; a++) {
    roughErrors[free[a]!] = length[a]
      ? (spread * Math.sqrt(covariance[a * p + a]!)) / length[a]!
      : Number.POSITIVE_INFINITY;
    for (let b = 0; b < a; b++) {
      const correlation = covariance[a * p + b]! / Math.sqrt(covariance[a * p + a]! * covariance[b * p + b]!);
      if (Math.abs(correlation) > 0.99) entangled.push([free[b]!, free[a]!, correlation]);
    }
  }
  const span = (a: number) => 1e-6 * Math.max(1, Math.abs(problem.upper[a]! - problem.lower[a]!));
  const atBound = free.filter((_, a) => x[a]! - problem.lower[a]! < span(a) || problem.upper[a]! - x[a]! < span(a));
  return {
    condition: smallest > 0 ? largest / smallest : Number.POSITIVE_INFINITY,
    unidentified: free.filter((f) => open.has(f)),
    atBound,
    roughErrors,
    entangled,
  };
}

function median(values: Float64Array): number {
  const sorted = values.slice().sort();
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half]! : (sorted[half - 1]! + sorted[half]!) / 2;
}
