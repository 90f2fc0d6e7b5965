// Robust nonlinear least squares inside a box: minimise Σ ρ(rᵢ(x)), ρ Huber's function with threshold t
// (r²/2 for |r| ≤ t, t·|r| − t²/2 beyond), the sum and not the mean.
//
// Two methods, used one after the other. Levenberg-Marquardt with Huber weights (iteratively reweighted) crosses the
// long curved valleys of power laws from far starts. It turns slow where many residuals lie beyond the threshold, so a
// BFGS iteration that starts from its curvature finishes to full precision. Both project on the box and leave out the
// parameters that a bound holds.

import { solvePositive } from './dense.ts';

export interface Residuals {
  parameters: number;
  count: number;
  lower: Float64Array;
  upper: Float64Array;
  /** Writes the residuals and, when given, their Jacobian [count, parameters]. */
  evaluate(x: Float64Array, residuals: Float64Array, jacobian?: Float64Array): void;
}

export interface Minimum {
  x: Float64Array;
  cost: number;
}

export function huberCost(residuals: Float64Array, threshold: number): number {
  let cost = 0;
  for (const r of residuals) {
    const size = Math.abs(r);
    cost += size <= threshold ? 0.5 * r * r : threshold * (size - 0.5 * threshold);
  }
  return cost;
}

/** The weight that makes a squared residual act like Huber's function at r. */
const weight = (r: number, threshold: number) => (Math.abs(r) <= threshold ? 1 : threshold / Math.abs(r));

/** Gradient Jᵀψ(r) and curvature JᵀWJ [p, p] at the last evaluated point. */
export function normalEquations(r: Float64Array, j: Float64Array, p: number, threshold: number) {
  const gradient = new Float64Array(p);
  const curvature = new Float64Array(p * p);
  for (let i = 0; i < r.length; i++) {
    const w = weight(r[i]!, threshold);
    for (let a = 0; a < p; a++) {
      const wj = w * j[i * p + a]!;
      gradient[a]! += wj * r[i]!;
      for (let b = 0; b <= a; b++) curvature[a * p + b]! += wj * j[i * p + b]!;
    }
  }
  for (let a = 0; a < p; a++) for (let b = 0; b < a; b++) curvature[b * p + a] = curvature[a * p + b]!;
  return { gradient, curvature };
}

const clamp = (x: number, low: number, high: number) => Math.min(Math.max(x, low), high);

/** The parameters that may move: not held by a bound that the gradient pushes against. */
function movable(problem: Residuals, x: Float64Array, gradient: Float64Array): number[] {
  const free: number[] = [];
  for (let i = 0; i < x.length; i++) {
    const held = (x[i]! <= problem.lower[i]! && gradient[i]! > 0) || (x[i]! >= problem.upper[i]! && gradient[i]! < 0);
    if (!held) free.push(i);
  }
  return free;
}

/** Levenberg-Marquardt with Huber weights from `start`. A start whose residuals are not finite has cost Infinity. */
export function levenbergMarquardt(
  problem: Residuals,
  start: Float64Array,
  threshold: number,
  iterations = 80,
): Minimum {
  const { parameters: p, count } = problem;
  let x = start.map((v, i) => clamp(v, problem.lower[i]!, problem.upper[i]!));
  const r = new Float64Array(count);
  const jacobian = new Float64Array(count * p);
  problem.evaluate(x, r, jacobian);
  let cost = huberCost(r, threshold);
  if (!Number.isFinite(cost)) return { x, cost: Number.POSITIVE_INFINITY };
  let damping = 1e-2;
  for (let iteration = 0; iteration < iterations; iteration++) {
    const { gradient, curvature } = normalEquations(r, jacobian, p, threshold);
    const free = movable(problem, x, gradient);
    const before = cost;
    for (let attempt = 0; attempt < 12; attempt++) {
      const step = dampedStep(gradient, curvature, p, free, damping);
      const next = Float64Array.from(x);
      if (step)
        for (const [k, i] of free.entries()) next[i] = clamp(x[i]! + step[k]!, problem.lower[i]!, problem.upper[i]!);
      problem.evaluate(next, r);
      const trial = step ? huberCost(r, threshold) : Number.POSITIVE_INFINITY;
      if (trial < cost) {
        x = next;
        cost = trial;
        damping = Math.max(damping / 5, 1e-12);
        break;
      }
      damping *= 5;
    }
    if (!(before - cost > 1e-9 * before)) break;
    problem.evaluate(x, r, jacobian);
  }
  return { x, cost };
}

/** Solves (C + λ·diag C)·s = −g on the free parameters, or undefined. */
function dampedStep(gradient: Float64Array, curvature: Float64Array, p: number, free: number[], damping: number) {
  const m = free.length;
  const matrix = new Float64Array(m * m);
  let largest = 0;
  for (const i of free) largest = Math.max(largest, curvature[i * p + i]!);
  for (const [a, i] of free.entries()) for (const [b, j] of free.entries()) matrix[a * m + b] = curvature[i * p + j]!;
  for (let a = 0; a < m; a++) matrix[a * m + a] = matrix[a * m + a]! * (1 + damping) + 1e-16 * largest;
  return solvePositive(
    matrix,
    Float64Array.from(free, (i) => -gradient[i]!),
  );
}

/** BFGS from a point near the minimum, the first inverse curvature taken from the weighted normal equations. */
export function polish(problem: Residuals, start: Minimum, threshold: number, iterations = 200): Minimum {
  const { parameters: p, count } = problem;
  const r = new Float64Array(count);
  const jacobian = new Float64Array(count * p);
  let { x, cost } = start;
  problem.evaluate(x, r, jacobian);
  let { gradient, curvature } = normalEquations(r, jacobian, p, threshold);
  let free = movable(problem, x, gradient);
  let inverse = invert(curvature, p, free);
  for (let iteration = 0; iteration < iterations && free.length > 0; iteration++) {
    const m = free.length;
    const direction = new Float64Array(p);
    let slope = 0;
    free.forEach((i, a) => {
      for (let b = 0; b < m; b++) direction[i]! -= inverse[a * m + b]! * gradient[free[b]!]!;
      slope += direction[i]! * gradient[i]!;
    });
    if (!(slope < -1e-13 * cost)) break;
    let scale = 1;
    let next: Minimum | undefined;
    for (let attempt = 0; attempt < 30 && !next; attempt++, scale /= 2) {
      const trial = x.map((v, i) => clamp(v + scale * direction[i]!, problem.lower[i]!, problem.upper[i]!));
      problem.evaluate(trial, r, jacobian);
      const trialCost = huberCost(r, threshold);
      if (trialCost <= cost + 1e-4 * scale * slope) next = { x: trial, cost: trialCost };
    }
    if (!next) break;
    const now = normalEquations(r, jacobian, p, threshold);
    const nowFree = movable(problem, next.x, now.gradient);
    if (nowFree.join() === free.join())
      updateInverse(
        inverse,
        free.map((i) => next.x[i]! - x[i]!),
        free.map((i) => now.gradient[i]! - gradient[i]!),
      );
    else inverse = invert(now.curvature, p, nowFree);
    ({ x, cost } = next);
    ({ gradient, curvature } = now);
    free = nowFree;
  }
  return { x, cost };
}

/** The inverse of the curvature on the free parameters, lifted until it is positive definite. */
function invert(curvature: Float64Array, p: number, free: number[]): Float64Array {
  const m = free.length;
  const inverse = new Float64Array(m * m);
  for (let damping = 1e-12; ; damping *= 100) {
    const columns = free.map((i) => {
      const unit = new Float64Array(p);
      unit[i] = -1;
      return dampedStep(unit, curvature, p, free, damping);
    });
    if (columns.every((c) => c !== undefined)) {
      for (const [a, column] of columns.entries()) inverse.set(column!, a * m);
      return inverse;
    }
    // A parameter without any influence: fall back on steepest descent.
    if (damping > 1e6) {
      for (let a = 0; a < m; a++) inverse[a * m + a] = 1;
      return inverse;
    }
  }
}

/** The BFGS update H ← (I − ρsyᵀ)H(I − ρysᵀ) + ρssᵀ, skipped where the curvature along the step is not positive. */
function updateInverse(inverse: Float64Array, s: number[], y: number[]): void {
  const m = s.length;
  let sy = 0;
  for (let i = 0; i < m; i++) sy += s[i]! * y[i]!;
  if (!(sy > 1e-300)) return;
  const hy = s.map((_, i) => y.reduce((sum, v, k) => sum + inverse[i * m + k]! * v, 0));
  const yhy = hy.reduce((sum, v, i) => sum + v * y[i]!, 0);
  for (let i = 0; i < m; i++)
    for (let k = 0; k < m; k++)
      inverse[i * m + k]! += ((1 + yhy / sy) * s[i]! * s[k]! - hy[i]! * s[k]! - s[i]! * hy[k]!) / sy;
}
