// From a law and observed runs to residuals: which parameters are free, their transforms, and what must hold of the
// data before a fit means anything. Residuals are ln observed − ln predicted unless nats are asked for, which suits gaps
// whose noise does not shrink with them.

import { userError } from '../errors.ts';
import { checkPoint, type Law, type Observation, parameterIndex } from './law.ts';
import type { Residuals } from './minimise.ts';

export interface Constraints {
  /** Parameters held at a value. */
  frozen?: Readonly<Record<string, number>>;
  /** Parameters that equal another one, `{ beta: 'alpha' }`. */
  tied?: Readonly<Record<string, string>>;
  /** What a residual is: ln observed − ln predicted (`log`, the default), or observed − predicted in nats. */
  residual?: 'log' | 'nats';
}

export interface FitProblem extends Residuals {
  /** Names of the free parameters in the order of x. */
  free: readonly string[];
  /** All parameter values of the law at x. */
  values(x: Float64Array): Float64Array;
  /** The fit variable of parameter i for a value: ln(value) or value. */
  variable(i: number, value: number): number;
}

/** Builds the problem; does not judge the data (see `checkData`). Throws SubbyteError for impossible constraints. */
export function fitProblem(
  law: Law,
  runs: readonly Observation[],
  { frozen = {}, tied = {}, residual = 'log' }: Constraints,
): FitProblem {
  const total = law.parameters.length;
  const fixed = new Float64Array(total).fill(Number.NaN);
  for (const [name, value] of Object.entries(frozen)) {
    fixed[parameterIndex(law, name)] = value;
    if (!Number.isFinite(value)) throw badOption(law, `${name} is frozen at no finite value`, value);
  }
  const slot = new Int32Array(total).fill(-1);
  const free: number[] = [];
  law.parameters.forEach(({ name }, i) => {
    if (Number.isNaN(fixed[i]!) && !(name in tied)) slot[i] = free.push(i) - 1;
  });
  for (const [name, other] of Object.entries(tied)) {
    const target = parameterIndex(law, other);
    if (other in tied) throw badOption(law, `${name} is tied to ${other}, which is tied itself`, other);
    fixed[parameterIndex(law, name)] = fixed[target]!;
    slot[parameterIndex(law, name)] = slot[target]!;
  }
  const isLog = law.parameters.map((q) => q.scale === 'log');
  const variable = (i: number, value: number) => (isLog[free[i]!] ? Math.log(value) : value);
  const p = free.length;
  const inNats = residual === 'nats';
  const observed = Float64Array.from(runs, (r) => (inNats ? r.observed : Math.log(r.observed)));
  const gradient = new Float64Array(total);
  const buffer = new Float64Array(total);

  function fill(x: Float64Array): Float64Array {
    for (let i = 0; i < total; i++)
      buffer[i] = slot[i]! < 0 ? fixed[i]! : isLog[i] ? Math.exp(x[slot[i]!]!) : x[slot[i]!]!;
    return buffer;
  }
  function evaluate(x: Float64Array, residuals: Float64Array, jacobian?: Float64Array): void {
    const values = fill(x);
    jacobian?.fill(0);
    for (let r = 0; r < runs.length; r++) {
      const predicted = law.evaluate(values, runs[r]!, jacobian && gradient);
      residuals[r] = observed[r]! - (inNats ? predicted : Math.log(predicted));
      if (!jacobian) continue;
      const slope = inNats ? 1 : 1 / predicted;
      for (let i = 0; i < total; i++)
        if (slot[i]! >= 0) jacobian[r * p + slot[i]!]! -= gradient[i]! * (isLog[i] ? values[i]! : 1) * slope;
    }
  }
  return {
    parameters: p,
    count: runs.length,
    lower: Float64Array.from(free, (i, k) => variable(k, law.parameters[i]!.lower)),
    upper: Float64Array.from(free, (i, k) => variable(k, law.parameters[i]!.upper)),
    free: free.map((i) => law.parameters[i]!.name),
    values: (x) => Float64Array.from(fill(x)),
    variable,
    evaluate,
  };
}

/** An option of a fit that cannot be. */
export const badOption = (law: Law, problem: string, got: number | string) =>
  userError({ code: 'law-option', op: `fit ${law.id}`, problem, got });

/**
 * Refuses data that cannot determine the free parameters.
 *
 * @throws SubbyteError `law-data` (too few runs, an axis with one value, NaN losses), `law-units`, `law-point`.
 */
export function checkData(
  law: Law,
  runs: readonly Observation[],
  free: readonly string[],
  residual: Constraints['residual'] = 'log',
): void {
  const op = `fit ${law.id}`;
  for (const run of runs) {
    const isUsable = run.observed > 0 || (residual === 'nats' && law.predicts === 'gap');
    if (!(isUsable && Number.isFinite(run.observed)))
      throw userError({
        code: 'law-data',
        op,
        problem: `the ${law.predicts} of ${run.label} is not a positive number`,
        got: run.observed,
        fix:
          law.predicts === 'gap'
            ? 'fit residuals in nats or average more seeds'
            : 'mark the run as diverged or leave it out',
      });
    checkPoint(run, law.needs, op, run.label);
  }
  if (runs.length <= free.length)
    throw userError({
      code: 'law-data',
      op,
      problem: 'too few runs',
      got: `${runs.length} runs for ${free.length} free parameters`,
      expected: `at least ${free.length + 1}`,
      fix: 'add runs or freeze parameters',
    });
  for (const { name, axis } of law.parameters) {
    if (!axis || !free.includes(name)) continue;
    const seen = new Set(runs.map((r) => r[axis]));
    if (seen.size < 2)
      throw userError({
        code: 'law-data',
        op,
        problem: `all runs have the same ${axis}, so ${name} cannot be fitted`,
        got: String([...seen][0]),
        fix: `add runs of another ${axis} or freeze ${name}`,
      });
  }
}
