// The law that plans rest on when no fit of one's own is given: Quartet's law with all formats of the recorded runs of
// Quartet and QuEST, base and efficiencies fitted together, so that intervals know how they depend on each other.
//
// All runs are Llama-style models of 30M to 800M non-embedding parameters on C4 with Llama 2's tokenizer. mxfp4 forward is
// QuEST's quantizer, mxfp4 backward stochastic rounding; int8 to int2 are QuEST's weights and activations, backward in
// BF16. Every prediction beyond 1B parameters or some 800 tokens a parameter is an extrapolation.

import { bootstrap } from './bootstrap.ts';
import { flagDiverged } from './divergence.ts';
import { fitLaw } from './fit.ts';
import { quartetBase } from './outer-exponent.ts';
import type { PlanModel } from './plan.ts';
import { quartetLaw } from './quartet.ts';
import type { Run } from './runs.ts';

const quest: Readonly<Record<string, string>> = { 8: 'int8', 4: 'int4', 3: 'int3', 2: 'int2' };
const stochastic = 'AlbertTsengQuantizer';
const sources = (r: Run): Partial<Run> | undefined => {
  if (r.extra.source === 'quartet' && r.extra.note === 'fit_v1') {
    const forward = { BF16: 'BF16', QuEST: 'mxfp4' }[r.forward ?? 'BF16'];
    const backward = { BF16: 'BF16', [stochastic]: 'mxfp4' }[r.backward ?? 'BF16'];
    return forward && backward ? { forward, backward } : undefined;
  }
  const bits = /^eff_class=(\d);/.exec(r.extra.note ?? '')?.[1];
  const forward = bits && quest[bits];
  return forward ? { forward, backward: 'BF16' } : undefined;
};

export const recordedFormats = { forward: ['mxfp4', ...Object.values(quest).reverse()], backward: ['mxfp4'] };

/** The law fitted to recorded runs, with `samples` bootstrap refits. */
export function recordedLaw(all: readonly Run[], samples: number, seed: number): PlanModel & { runs: number } {
  const runs = flagDiverged(all, { same: ['source', 'note'] }).flatMap((r) => {
    const named = r.diverged ? undefined : sources(r);
    return named ? [{ ...r, ...named }] : [];
  });
  const law = quartetLaw(recordedFormats.forward, recordedFormats.backward);
  const starts = Object.fromEntries(law.parameters.map(({ name }) => [name, [quartetBase.values[name] ?? 0.7]]));
  const fitted = fitLaw(law, runs, { huber: 1e-4, starts });
  const resampled = bootstrap(fitted, { samples, seed });
  return {
    law,
    values: capped(fitted.values),
    samples: resampled.samples.map(capped),
    level: resampled.level,
    runs: runs.length,
  };
}

/** No format is better than none: an efficiency above 1 (that of int8 rests on three runs) is noise. */
const capped = (values: Readonly<Record<string, number>>): Record<string, number> =>
  Object.fromEntries(Object.entries(values).map(([name, v]) => [name, /^eff/.test(name) ? Math.min(v, 1) : v]));
