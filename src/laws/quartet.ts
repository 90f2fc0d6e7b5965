// Quartet's precision law: L = (A/(N·effN)^α + B/(D·effD)^β)^γ + E (arXiv 2505.14669).
//
// The forward scheme costs parameters (effN), the backward scheme costs tokens (effD). Fit the base on unquantized
// runs, freeze it, then fit one number per scheme. An efficiency means something only beside its base: the same runs
// give 0.0205 or 0.048 for 1-bit QuEST under two bases, so `quartetEfficiencies` names the base of each value.

import { baseLaw } from './base.ts';
import type { Law } from './law.ts';

/**
 * The law with one efficiency for each named scheme; other schemes than these and BF16 are rejected by the fit.
 *
 * @example quartetLaw(['QuEST'], ['AlbertTsengQuantizer']).parameters.length; // 8
 */
export function quartetLaw(forward: readonly string[], backward: readonly string[] = []): Law {
  const formula = '(A/(N·effN)^alpha + B/(D·effD)^beta)^gamma + E';
  return baseLaw({ id: 'quartet', formula, outerExponent: true, forward, backward });
}

export interface Efficiency {
  forward: string;
  backward: string;
  effN: number;
  effD: number;
  /** How many runs the value rests on; one run has no error bar. */
  runs: number;
  note?: string;
}

/** Published efficiencies in MXFP4 (group 32, E8M0 scales) over the first-release base `quartetBase`. */
export const quartetEfficiencies: readonly Efficiency[] = [
  { forward: 'QuEST', backward: 'BF16', effN: 0.6478, effD: 1, runs: 21 },
  { forward: 'AlbertTsengDeterministic', backward: 'BF16', effN: 0.6076, effD: 1, runs: 6 },
  {
    forward: 'AlbertTsengQuantizer',
    backward: 'BF16',
    effN: 0.4353,
    effD: 1,
    runs: 6,
    note: 'includes a diverged run; 0.4384 without it',
  },
  { forward: 'BF16', backward: 'AlbertTsengQuantizer', effN: 1, effD: 0.8918, runs: 21 },
  {
    forward: 'QuEST',
    backward: 'AlbertTsengQuantizer',
    effN: 0.6418,
    effD: 0.9435,
    runs: 8,
    note: 'the printed 0.64 and 0.94; all 21 runs give 0.661 and 0.817',
  },
];
