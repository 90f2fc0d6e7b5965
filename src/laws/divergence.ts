// Runs that must not be fitted as they are: those that diverged, and quantized runs without an unquantized twin.

import type { Run } from './runs.ts';

/**
 * Marks runs that more data made worse: the loss exceeds that of the same size and formats (and equal `extra` columns
 * named in `same`) with fewer tokens by more than `tolerance` nats. Runs that are marked already stay marked.
 *
 * @example flagDiverged(runs).filter((r) => r.diverged).map((r) => r.reason);
 */
export function flagDiverged(runs: readonly Run[], { tolerance = 0.02, same = [] as readonly string[] } = {}): Run[] {
  const series = new Map<string, number[]>();
  runs.forEach((run, i) => {
    const key = [...formatOf(run), ...same.map((name) => run.extra[name])].join('|');
    const members = series.get(key);
    if (run.diverged) return;
    if (members) members.push(i);
    else series.set(key, [i]);
  });
  const result = [...runs];
  for (const members of series.values()) {
    members.sort((a, b) => runs[a]!.d - runs[b]!.d || runs[a]!.observed - runs[b]!.observed);
    let best = runs[members[0]!]!;
    for (const i of members) {
      const run = runs[i]!;
      if (run.d > best.d && run.observed > best.observed + tolerance) {
        const reason = `loss ${run.observed} after ${run.d.toPrecision(3)} tokens, but ${best.observed} after ${best.d.toPrecision(3)}`;
        result[i] = { ...run, diverged: true, reason };
      } else if (run.observed < best.observed) best = run;
    }
  }
  return result;
}

const formatOf = (r: Run) => [
  r.n,
  r.forward,
  r.backward,
  r.group,
  r.block,
  r.exponentBits,
  r.mantissaBits,
  r.weightBits,
  r.activationBits,
  r.cacheBits,
];

/**
 * Pairs quantized runs with the unquantized run of equal size and tokens; `observed` becomes the gap in nats.
 * Quantized runs without a twin are left out.
 */
export function gapsToTwins(runs: readonly Run[], isTwin: (run: Run) => boolean): Run[] {
  const twins = new Map(runs.filter((r) => isTwin(r) && !r.diverged).map((r) => [`${r.n}|${r.d}`, r.observed]));
  return runs.flatMap((run) => {
    const base = twins.get(`${run.n}|${run.d}`);
    return base === undefined || isTwin(run) ? [] : [{ ...run, observed: run.observed - base }];
  });
}
