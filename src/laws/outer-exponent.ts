// The law with an outer exponent: L = (A/N^α + B/D^β)^γ + E.
//
// Busbridge et al. (arXiv 2502.08606) use it as the base of their distillation law, Quartet (arXiv 2505.14669) as the
// base of its precision law. γ < 1 couples the two terms, which removes the saddle-shaped residuals of the plain sum:
// on Quartet's BF16 runs the Huber cost falls by more than a factor of three.

import { baseLaw } from './base.ts';
import type { Coefficients } from './law.ts';

export const outerExponent = baseLaw({
  id: 'outer-exponent',
  formula: '(A/N^alpha + B/D^beta)^gamma + E',
  outerExponent: true,
});

export const appleBase: Coefficients = {
  law: 'outer-exponent',
  source: 'constants for web text of arXiv 2502.08606 as used in the notebook of IST-DASLab/Quartet',
  values: { A: 3355, alpha: 0.408, B: 18186, beta: 0.431, E: 1.22, gamma: 0.452 },
};

export const quartetBase: Coefficients = {
  law: 'outer-exponent',
  source: 'arXiv 2505.14669, 23 BF16 runs of 30M to 800M non-embedding parameters on C4',
  values: { A: 152374.78, alpha: 0.58858, B: 525458.93, beta: 0.54404, E: 1.34814, gamma: 0.27393 },
};

export const quartetBaseLater: Coefficients = {
  law: 'outer-exponent',
  source: 'later notebook of IST-DASLab/Quartet, one more run',
  values: { A: 127444.7, alpha: 0.57852, B: 465834.3, beta: 0.53888, E: 1.34085, gamma: 0.27642 },
};
