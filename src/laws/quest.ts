// QuEST's law: L = A/(N·eff)^α + B/D^β + E, one efficiency for each width of weights and activations
// (arXiv 2502.05003; INT1 to INT8 with Hadamard, C4, most runs at 100 tokens per parameter).
//
// With D near 100·N in most runs, size and data terms are hardly told apart: the published E of 0.0014 is no
// irreducible loss. Compare efficiencies over one base only; over Quartet's base the 1-bit value is 0.048 and the others
// move by up to 0.04.

import { baseLaw } from './base.ts';
import type { Coefficients, Law } from './law.ts';

/** The law with one efficiency for each named forward scheme. */
export function questLaw(forward: readonly string[]): Law {
  return baseLaw({ id: 'quest', formula: 'A/(N·effN)^alpha + B/D^beta + E', outerExponent: false, forward });
}

export const questPublished: Coefficients = {
  law: 'quest',
  source: 'notebook of IST-DASLab/QuEST (arXiv 2502.05003)',
  values: {
    A: 8.134,
    alpha: 0.06273,
    B: 86.41,
    beta: 0.24129,
    E: 0.00142,
    'effN(INT1)': 0.0205,
    'effN(INT2)': 0.1519,
    'effN(INT3)': 0.4331,
    'effN(INT4)': 0.6918,
    'effN(FP4)': 0.6296,
    'effN(INT8)': 1.016,
  },
  note: 'the notebook keeps the last start, not the best, and plain least squares; E is not identified',
};
