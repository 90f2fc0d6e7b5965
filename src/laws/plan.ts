// From a budget to a format, a size and a number of tokens: the plan of least predicted loss.
//
// The law is L = (A/(N·effN)^α + B/(D·effD)^β)^γ + E with an effN for each forward and an effD for each backward format
// (Quartet, arXiv 2505.14669). A third of a training step is forward, two thirds backward, so a scheme with speed-ups
// s_f and s_b over BF16 trains s = 1/(⅓/s_f + ⅔/s_b) times as much in a budget of C FLOP counted in BF16: N·D = C·s/6.
// With the efficiencies the optimum has the closed form of the base law (`computeOptimal`). A memory for deployment
// bounds N by the bytes of a parameter in the forward format. The interval of a plan is that of the law's parameters
// (bootstrap), at the plan's N and D. FP8 counts as lossless, which is an assumption. Linear cost only: no attention,
// optimizer, communication, embeddings or KV cache.

import { userError } from '../errors.ts';
import { computeOptimal } from './base.ts';
import { percentiles } from './bootstrap.ts';
import type { Speeds } from './hardware.ts';
import { type Law, predict, vectorOf } from './law.ts';
import { trainingSpeedUp } from './speed-up.ts';

type Values = Readonly<Record<string, number>>;

/** What weights take in memory, bytes a parameter; MX formats with their scales, integers have one a channel. */
export const bytesOf: Readonly<Record<string, number>> = {
  bf16: 2,
  fp8: 1.03125,
  mxfp4: 0.53125,
  int8: 1,
  int4: 0.5,
  int3: 0.375,
  int2: 0.25,
};

export interface Scheme {
  forward: string;
  backward: string;
}

export const schemeName = ({ forward, backward }: Scheme) => `${forward}:${backward}`;

/** `mxfp4:fp8` → forward mxfp4, backward fp8; one name means both. */
export function parseScheme(text: string): Scheme {
  const [forward, backward = forward, ...rest] = text.trim().toLowerCase().split(':');
  if (rest.length === 0 && forward && forward in bytesOf && backward in bytesOf) return { forward, backward };
  throw userError({
    code: 'unknown-scheme',
    op: 'laws plan',
    problem: 'not a forward and a backward format',
    got: JSON.stringify(text.slice(0, 64)),
    expected: `two of ${Object.keys(bytesOf).join(', ')}, such as mxfp4:fp8`,
  });
}

export interface PlanModel {
  law: Law;
  values: Values;
  /** Parameter values of bootstrap refits. */
  samples: readonly Values[];
  level: number;
}

export interface Budget {
  /** Training compute in FLOP of BF16. */
  flop?: number;
  /** Bytes for the weights in deployment. */
  memory?: number;
  /** Tokens, where they are given and not to be chosen. */
  tokens?: number;
}

export interface Plan {
  scheme: Scheme;
  n: number;
  d: number;
  /** Of a whole training step over BF16. */
  speedUp: number;
  loss: number;
  interval?: [number, number];
  /** Share of the bootstrap samples in which this plan has the least loss. */
  best?: number;
  /** What bounds the size. */
  bound: 'compute' | 'memory' | 'both';
}

const speedOf = (speeds: Speeds, format: string) => (format === 'bf16' ? 1 : (speeds[format] ?? 1));
const efficiencyOf = (values: Values, name: string) => values[name] ?? 1;
/** The names that the law knows formats by; BF16 and FP8 are without loss. */
const nameInLaw = (format: string) => (format === 'bf16' || format === 'fp8' ? 'BF16' : format);

const speedUpOf = (speeds: Speeds, { forward, backward }: Scheme) =>
  trainingSpeedUp({ forward: speedOf(speeds, forward), backward: speedOf(speeds, backward) });

/** Size and tokens of a scheme within a budget. */
function withinBudget(values: Values, scheme: Scheme, speeds: Speeds, { flop, memory, tokens }: Budget) {
  const speedUp = speedUpOf(speeds, scheme);
  const most = memory === undefined ? Number.POSITIVE_INFINITY : memory / bytesOf[scheme.forward]!;
  const product = flop === undefined ? undefined : (flop * speedUp) / 6;
  if (tokens !== undefined) {
    const affordable = product === undefined ? Number.POSITIVE_INFINITY : product / tokens;
    const n = Math.min(most, affordable);
    return { n, d: tokens, speedUp, bound: n === most ? ('memory' as const) : ('compute' as const) };
  }
  const effN = efficiencyOf(values, `effN(${scheme.forward})`);
  const effD = efficiencyOf(values, `effD(${scheme.backward})`);
  const free = computeOptimal(values, 6 * product! * effN * effD).n / effN;
  const n = Math.min(free, most);
  return { n, d: product! / n, speedUp, bound: n === most ? ('both' as const) : ('compute' as const) };
}

/** @throws SubbyteError `plan-budget` when the budget leaves size or tokens open */
export function checkBudget({ flop, memory, tokens }: Budget): void {
  if (flop !== undefined || (memory !== undefined && tokens !== undefined)) return;
  throw userError({
    code: 'plan-budget',
    op: 'laws plan',
    problem: 'the budget leaves size or tokens open',
    fix: 'give --flop, or --memory with --d',
  });
}

/**
 * The plans of all schemes, the least loss first.
 *
 * @throws what `checkBudget` throws, and `law-units` for impossible counts
 */
export function plans(model: PlanModel, schemes: readonly Scheme[], speeds: Speeds, budget: Budget): Plan[] {
  checkBudget(budget);
  const { law, values, samples, level } = model;
  const found = schemes.map((scheme): Plan => {
    const place = withinBudget(values, scheme, speeds, budget);
    return { scheme, ...place, loss: predict(law, values, pointOf(scheme, place)) };
  });
  if (samples.length === 0) return found.sort((a, b) => a.loss - b.loss);
  const losses = found.map(({ scheme, n, d }) =>
    samples.map((s) => law.evaluate(vectorOf(law, s), pointOf(scheme, { n, d }))),
  );
  const best = found.map(() => 0);
  for (let k = 0; k < samples.length; k++) {
    let winner = 0;
    for (let i = 1; i < losses.length; i++) if (losses[i]![k]! < losses[winner]![k]!) winner = i;
    best[winner]!++;
  }
  return found
    .map((plan, i) => ({ ...plan, interval: percentiles(losses[i]!, level), best: best[i]! / samples.length }))
    .sort((a, b) => a.loss - b.loss);
}

const pointOf = ({ forward, backward }: Scheme, { n, d }: { n: number; d: number }) => ({
  n,
  d,
  forward: nameInLaw(forward),
  backward: nameInLaw(backward),
});

/**
 * The scheme of least loss when inference may cost what `n` parameters cost in BF16 and training what n and n·ratio
 * tokens cost in BF16: a faster forward pass buys parameters, a faster training buys tokens.
 */
export function bestScheme(
  { law, values }: PlanModel,
  schemes: readonly Scheme[],
  speeds: Speeds,
  n: number,
  ratio: number,
): Scheme {
  let best = schemes[0]!;
  let least = Number.POSITIVE_INFINITY;
  for (const scheme of schemes) {
    const size = n * speedOf(speeds, scheme.forward);
    const d = (n * n * ratio * speedUpOf(speeds, scheme)) / size;
    const loss = law.evaluate(vectorOf(law, values), pointOf(scheme, { n: size, d }));
    if (loss < least) [best, least] = [scheme, loss];
  }
  return best;
}
