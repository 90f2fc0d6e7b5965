// Fits a law to runs: the sum of Huber's function of ln observed − ln predicted, from many deterministic starts.
//
// The method is Chinchilla's (arXiv 2203.15556) with its published trap avoided: the sum, not the mean, and run to
// full precision (arXiv 2404.10102). Every start of the grid is evaluated; the cheapest half of those refined and an
// even spread over the rest go through Levenberg-Marquardt, the best few minima through BFGS.

import { userError } from '../errors.ts';
import { type Identifiability, identifiability } from './identifiability.ts';
import { type Law, type Observation, parameterIndex } from './law.ts';
import { huberCost, levenbergMarquardt, type Minimum, polish } from './minimise.ts';
import { badOption, type Constraints, checkData, type FitProblem, fitProblem } from './problem.ts';

export interface FitOptions extends Constraints {
  /** Huber's threshold on the log residual; 1e-3 by default. */
  huber?: number;
  /** Start values that replace those of the law, by parameter. */
  starts?: Readonly<Record<string, readonly number[]>>;
  /** How many starts are refined; 24 by default. */
  refine?: number;
}

export interface Fit {
  law: Law;
  /** Every parameter of the law, frozen and tied ones too. */
  values: Record<string, number>;
  free: readonly string[];
  /** Sum of Huber's function at the minimum. */
  cost: number;
  /** ln observed − ln predicted (or observed − predicted in nats, as asked), in the order of `runs`. */
  residuals: Float64Array;
  runs: readonly Observation[];
  /** Runs that were left out, with the reason. */
  excluded: readonly { label: string; reason: string }[];
  /** Refined starts, and how many of them ended within 1 % of the best cost. */
  starts: number;
  agreeing: number;
  identifiability: Identifiability;
  warnings: string[];
  options: FitOptions;
}

const mostStarts = 6000;

/**
 * Fits the free parameters of a law. Runs marked `diverged` are left out and named in `excluded` and `warnings`.
 *
 * @throws SubbyteError `law-data` when the runs cannot determine the parameters, `law-units` for wrong units,
 * `law-option` for impossible options.
 * @example fitLaw(chinchilla, observations, { tied: { beta: 'alpha' } }).values.alpha;
 */
export function fitLaw(
  law: Law,
  runs: readonly (Observation & { diverged?: boolean; reason?: string })[],
  options: FitOptions = {},
): Fit {
  const huber = options.huber ?? 1e-3;
  const refine = options.refine ?? 24;
  if (!(huber > 0)) throw badOption(law, "Huber's threshold is not positive", huber);
  if (!(Number.isInteger(refine) && refine >= 1))
    throw badOption(law, 'the number of refined starts is no count', refine);
  for (const name of Object.keys(options.starts ?? {})) parameterIndex(law, name);
  const used = runs.filter((r) => !r.diverged);
  const problem = fitProblem(law, used, options);
  checkData(law, used, problem.free, options.residual);
  const starts = startGrid(law, problem, options.starts ?? {});
  const residuals = new Float64Array(used.length);
  const ranked = starts
    .map((x) => {
      problem.evaluate(x, residuals);
      return { x, cost: huberCost(residuals, huber) };
    })
    .filter((s) => Number.isFinite(s.cost))
    .sort((a, b) => a.cost - b.cost);
  if (ranked.length === 0) throw notPredictable(law, used, problem, starts[0]!);
  const minima = choose(ranked, refine)
    .map((s) => levenbergMarquardt(problem, s.x, huber))
    .sort((a, b) => a.cost - b.cost);
  const best = minima
    .slice(0, 3)
    .map((m) => polish(problem, m, huber))
    .reduce((a, b) => (b.cost < a.cost ? b : a));
  const excluded = runs.filter((r) => r.diverged).map((r) => ({ label: r.label, reason: r.reason ?? 'diverged' }));
  const agreeing = minima.filter((m) => m.cost <= best.cost * 1.01 + 1e-18).length;
  return {
    ...describe(law, used, problem, best),
    options,
    excluded,
    starts: minima.length,
    agreeing,
    ...warn(problem, best, excluded),
  };
}

/** Refits from given values without a start grid; what the bootstrap repeats. */
export function refit(from: Fit, runs: readonly Observation[]): Record<string, number> {
  const { law, options } = from;
  const problem = fitProblem(law, runs, options);
  const huber = options.huber ?? 1e-3;
  const start = Float64Array.from(problem.free, (name, i) => problem.variable(i, from.values[name]!));
  const best = polish(problem, levenbergMarquardt(problem, start, huber, 10), huber);
  return named(law, problem.values(best.x));
}

const named = (law: Law, values: Float64Array) =>
  Object.fromEntries(law.parameters.map((p, i) => [p.name, values[i]!]));

function describe(law: Law, runs: readonly Observation[], problem: FitProblem, best: Minimum) {
  const residuals = new Float64Array(runs.length);
  problem.evaluate(best.x, residuals);
  return { law, runs, values: named(law, problem.values(best.x)), free: problem.free, cost: best.cost, residuals };
}

function warn(problem: FitProblem, best: Minimum, excluded: Fit['excluded']) {
  const report = identifiability(problem, best.x);
  const warnings: string[] = [];
  for (const { label, reason } of excluded) warnings.push(`${label} was left out: ${reason}`);
  if (report.unidentified.length) warnings.push(`the runs do not identify ${report.unidentified.join(', ')}`);
  for (const name of report.atBound) warnings.push(`${name} ended on its bound`);
  for (const [a, b, c] of report.entangled)
    if (a === 'E' || b === 'E')
      warnings.push(`${a} and ${b} move together (correlation ${c.toFixed(3)}): do not compare E across fits`);
  for (const name of problem.free)
    if (report.roughErrors[name]! > 1 && !report.unidentified.includes(name))
      warnings.push(`${name} is hardly determined (rough error ${report.roughErrors[name]!.toPrecision(2)})`);
  return { identifiability: report, warnings };
}

/** The product of the start values of all free parameters, thinned evenly to a bounded number. */
function startGrid(
  law: Law,
  problem: FitProblem,
  replaced: Readonly<Record<string, readonly number[]>>,
): Float64Array[] {
  const lists = problem.free.map((name, i) => {
    const values = replaced[name] ?? law.parameters.find((p) => p.name === name)!.starts;
    return values.map((v) => problem.variable(i, v));
  });
  const total = lists.reduce((product, l) => product * l.length, 1);
  const count = Math.min(total, mostStarts);
  return Array.from({ length: count }, (_, k) => {
    let index = Math.floor((k * total) / count);
    return Float64Array.from(lists, (list) => {
      const value = list[index % list.length]!;
      index = Math.floor(index / list.length);
      return value;
    });
  });
}

/** The cheapest half and an even spread over the remaining starts. */
function choose(ranked: Minimum[], refine: number): Minimum[] {
  if (ranked.length <= refine) return ranked;
  const cheapest = Math.ceil(refine / 2);
  const rest = ranked.slice(cheapest);
  const spread = Array.from(
    { length: refine - cheapest },
    (_, k) => rest[Math.floor((k * rest.length) / (refine - cheapest))]!,
  );
  return [...ranked.slice(0, cheapest), ...spread];
}

function notPredictable(law: Law, runs: readonly Observation[], problem: FitProblem, x: Float64Array) {
  const bad = runs.find((r) => !Number.isFinite(Math.log(law.evaluate(problem.values(x), r))));
  const what = bad ? `${bad.label} (forward ${bad.forward ?? 'BF16'}, backward ${bad.backward ?? 'BF16'})` : 'the runs';
  return userError({
    code: 'law-data',
    op: `fit ${law.id}`,
    problem: `the law has no prediction for ${what}`,
    fix: 'name its schemes in the law or leave the run out',
  });
}
