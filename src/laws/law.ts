// A scaling law: what loss a training run will reach, as a function of its size, its data and its number formats.
//
// One small interface serves every law: named parameters with bounds, the axes of a run that each parameter is
// measured along, and a prediction with its exact gradient. Fitting, bootstrap and identifiability need no more.
// Units are raw counts: n is the number of non-embedding parameters (74317824, not 74), d the number of training
// tokens (1e10, not 10). Losses are nats per token.

import { userError } from '../errors.ts';

/** What a law may want to know of a run. n and d are raw counts; the other fields depend on the law. */
export interface Point {
  /** Non-embedding parameters. */
  n: number;
  /** Training tokens. */
  d: number;
  /** Elements that share one scale (quantization-aware training). */
  group?: number;
  /** Exponent and mantissa bits of a floating-point format, without the sign. */
  exponentBits?: number;
  mantissaBits?: number;
  /** Elements that share one scale in floating-point training; 1 means no quantization. */
  block?: number;
  weightBits?: number;
  activationBits?: number;
  cacheBits?: number;
  /** Names of the forward and backward quantization schemes; absent or BF16 means unquantized. */
  forward?: string;
  backward?: string;
}

/** A point with what was measured there: the loss, or the gap to the unquantized twin, in nats. */
export interface Observation extends Point {
  observed: number;
  /** How messages call this run. */
  label: string;
}

export interface Parameter {
  name: string;
  meaning: string;
  /** The variable of the fit: `log` fits ln(value), which keeps it positive and well scaled. */
  scale: 'log' | 'linear';
  lower: number;
  upper: number;
  /** Values from which fits start. */
  starts: readonly number[];
  /** The axis that must take at least two values for the data to say anything about this parameter. */
  axis?: keyof Point;
}

export interface Law {
  readonly id: string;
  readonly formula: string;
  readonly predicts: 'loss' | 'gap';
  readonly parameters: readonly Parameter[];
  /** The fields of a point that the law reads beside n and d. */
  readonly needs: readonly (keyof Point)[];
  /**
   * The prediction in nats for parameter values in the order of `parameters`. Writes the derivative with respect to
   * each (untransformed) value into `gradient` when that is given. Does not check the point.
   */
  evaluate(values: ArrayLike<number>, point: Point, gradient?: Float64Array): number;
}

/** Published or fitted values of a law's parameters. */
export interface Coefficients {
  law: string;
  /** Where the values come from. */
  source: string;
  values: Readonly<Record<string, number>>;
  /** Corrections and cautions. */
  note?: string;
}

const fewestParameters = 1e4;
const fewestTokens = 1e5;
const mostCount = 1e20;

/**
 * Checks that a point is in raw counts and has what the law reads.
 *
 * @throws SubbyteError `law-units` for sizes in millions or tokens in billions, `law-point` for a missing field.
 * @example checkPoint({ n: 1e9, d: 2e10 }, [], 'predict');
 */
export function checkPoint(point: Point, needs: readonly (keyof Point)[], op: string, label = 'the point'): void {
  checkCount(point.n, fewestParameters, 'n (non-embedding parameters)', op, label);
  checkCount(point.d, fewestTokens, 'd (training tokens)', op, label);
  for (const field of needs) {
    const value = point[field];
    if (value === undefined)
      throw userError({
        code: 'law-point',
        op,
        problem: `${label} lacks ${field}`,
        fix: `give ${field} for every run`,
      });
    const least = field === 'block' || field === 'group' ? 1 : 0;
    if (typeof value === 'number' && !(value >= least && Number.isFinite(value)))
      throw userError({
        code: 'law-point',
        op,
        problem: `${field} of ${label} is out of range`,
        got: value,
        expected: `a number of at least ${least}`,
      });
  }
}

function checkCount(value: number, least: number, what: string, op: string, label: string): void {
  if (value >= least && value <= mostCount) return;
  const small = value > 0 && value < least;
  throw userError({
    code: small ? 'law-units' : 'law-point',
    op,
    problem: `${what} of ${label} ${small ? 'looks like millions or billions' : 'is not a possible count'}`,
    got: value,
    expected: `a raw count between ${least} and ${mostCount}`,
    fix: 'write 20 billion as 2e10',
  });
}

/**
 * The values of a law's parameters in the law's order.
 *
 * @throws SubbyteError `law-coefficients` when one is missing, unknown or not finite.
 */
export function vectorOf(law: Law, values: Readonly<Record<string, number>>): Float64Array {
  for (const name of Object.keys(values)) parameterIndex(law, name);
  return Float64Array.from(law.parameters, ({ name }) => {
    const value = values[name];
    if (value !== undefined && Number.isFinite(value)) return value;
    throw userError({
      code: 'law-coefficients',
      op: law.id,
      problem: `parameter ${name} has no finite value`,
      fix: `give a value for each of ${names(law)}`,
    });
  });
}

/** The position of a parameter; throws SubbyteError `law-coefficients` for a name the law does not have. */
export function parameterIndex(law: Law, name: string): number {
  const index = law.parameters.findIndex((p) => p.name === name);
  if (index >= 0) return index;
  throw userError({
    code: 'law-coefficients',
    op: law.id,
    problem: 'the law has no such parameter',
    got: name,
    expected: names(law),
  });
}

const names = (law: Law) => law.parameters.map((p) => p.name).join(', ');

/**
 * The loss (or gap) in nats that a law predicts at a point.
 *
 * @example predict(chinchilla, chinchillaRefit.values, { n: 1e9, d: 2e10 });
 * @throws SubbyteError for wrong units, a missing field, an unknown scheme or missing coefficients.
 */
export function predict(law: Law, values: Readonly<Record<string, number>>, point: Point): number {
  checkPoint(point, law.needs, law.id);
  const predicted = law.evaluate(vectorOf(law, values), point);
  if (!Number.isNaN(predicted)) return predicted;
  throw userError({
    code: 'law-point',
    op: law.id,
    problem: `the law has no efficiency for forward ${point.forward ?? 'BF16'}, backward ${point.backward ?? 'BF16'}`,
    fix: `it has those of ${schemeNames(law, 'forward', 'effN')} and ${schemeNames(law, 'backward', 'effD')}`,
  });
}

/** The schemes of one pass that a law has efficiencies for, for people. */
function schemeNames(law: Law, pass: string, parameter: string): string {
  const named = law.parameters.flatMap(({ name }) =>
    name.startsWith(`${parameter}(`) ? [name.slice(parameter.length + 1, -1)] : [],
  );
  return `${pass} ${[...named, 'BF16'].join(', ')}`;
}
