// Confidence intervals by the bootstrap: refit the law to runs drawn with replacement, read off percentiles.
//
// The draw is seeded and counter-based, so the same seed gives the same intervals everywhere. A draw in which an axis
// that a free parameter needs has a single value is replaced by the next one. Percentile intervals; they say nothing
// of what the law itself leaves out, which grows with the distance from the runs.

import { userError } from '../errors.ts';
import { type Fit, refit } from './fit.ts';
import { type Law, type Observation, type Point, vectorOf } from './law.ts';

export interface Bootstrap {
  fit: Fit;
  law: Law;
  /** Parameter values of every refit. */
  samples: readonly Readonly<Record<string, number>>[];
  /** Percentile interval of each free parameter. */
  intervals: Record<string, [number, number]>;
  /** Standard deviation of each free parameter over the refits. */
  errors: Record<string, number>;
  level: number;
}

/** A uniform number in [0, 1) for a position of a stream: two rounds of a 32-bit integer mix. */
function uniform(seed: number, position: number): number {
  let x = (Math.imul(seed, 0x9e3779b1) ^ Math.imul(position + 1, 0x85ebca77)) >>> 0;
  for (let round = 0; round < 2; round++) {
    x = Math.imul(x ^ (x >>> 16), 0x21f0aaad);
    x = Math.imul(x ^ (x >>> 15), 0x735a2d97);
    x = (x ^ (x >>> 15)) >>> 0;
  }
  return x / 2 ** 32;
}

/**
 * Refits `samples` times; `level` is the coverage of the intervals.
 *
 * @throws SubbyteError `law-option` for a number of samples outside 20 to 10000.
 * @example bootstrap(fitted, { samples: 1000, seed: 7 }).intervals.alpha;
 */
export function bootstrap(fitted: Fit, { samples = 1000, seed = 1, level = 0.9 } = {}): Bootstrap {
  if (!(Number.isInteger(samples) && samples >= 20 && samples <= 10000))
    throw userError({
      code: 'law-option',
      op: 'bootstrap',
      problem: 'the number of samples is out of range',
      got: samples,
      expected: '20 to 10000',
    });
  const { runs, free, law } = fitted;
  const axes = law.parameters.filter((p) => p.axis && free.includes(p.name)).map((p) => p.axis!);
  const refits: Record<string, number>[] = [];
  for (let draw = 0; refits.length < samples && draw < 10 * samples; draw++) {
    const chosen = runs.map((_, i) => runs[Math.floor(uniform(seed, draw * runs.length + i) * runs.length)]!);
    if (axes.every((axis) => varies(chosen, axis))) refits.push(refit(fitted, chosen));
  }
  if (refits.length < samples)
    throw userError({
      code: 'law-data',
      op: 'bootstrap',
      problem: 'too few distinct runs to resample',
      got: runs.length,
      fix: 'add runs',
    });
  const intervals: Bootstrap['intervals'] = {};
  const errors: Bootstrap['errors'] = {};
  for (const name of free) {
    const values = refits.map((r) => r[name]!);
    intervals[name] = percentiles(values, level);
    const mean = values.reduce((a, b) => a + b, 0) / values.length;
    errors[name] = Math.sqrt(values.reduce((a, b) => a + (b - mean) ** 2, 0) / (values.length - 1));
  }
  return { fit: fitted, law, samples: refits, intervals, errors, level };
}

const varies = (runs: readonly Observation[], axis: keyof Point) => runs.some((r) => r[axis] !== runs[0]![axis]);

/** The interval of the prediction at a point, in nats: the uncertainty of the parameters, not the noise of a run. */
export function predictionInterval(
  { law, samples, level }: { law: Law; samples: Bootstrap['samples']; level: number },
  point: Point,
): [number, number] {
  return percentiles(
    samples.map((s) => law.evaluate(vectorOf(law, s), point)),
    level,
  );
}

export function percentiles(values: readonly number[], level: number): [number, number] {
  const sorted = Float64Array.from(values).sort();
  const at = (q: number) => {
    const x = q * (sorted.length - 1);
    const low = Math.floor(x);
    return sorted[low]! + (x - low) * (sorted[Math.min(low + 1, sorted.length - 1)]! - sorted[low]!);
  };
  return [at((1 - level) / 2), at((1 + level) / 2)];
}
