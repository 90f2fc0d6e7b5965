// Chinchilla's law: L = A/N^α + B/D^β + E (Hoffmann et al., arXiv 2203.15556).
//
// The published coefficients come from a fit that stopped early (it averaged the Huber terms, which made the loose
// tolerance of the optimizer bind); Besiroglu et al. (arXiv 2404.10102) digitised the runs and refitted the sum. Use
// the refit. N is total parameters there, unlike in the other laws, and D is FLOP/(6N).

import { baseLaw } from './base.ts';
import type { Coefficients } from './law.ts';

export const chinchilla = baseLaw({ id: 'chinchilla', formula: 'A/N^alpha + B/D^beta + E', outerExponent: false });

export const chinchillaPublished: Coefficients = {
  law: 'chinchilla',
  source: 'arXiv 2203.15556, unrounded values of the TeX source',
  values: { A: Math.exp(6.0073404), alpha: 0.33917, B: Math.exp(6.0179186), beta: 0.28491, E: Math.exp(0.5267228) },
  note: 'the optimizer had stopped early: prefer the refit',
};

export const chinchillaRefit: Coefficients = {
  law: 'chinchilla',
  source: 'arXiv 2404.10102, refit of 240 digitised runs (the 5 largest losses left out)',
  values: { A: 482.01, alpha: 0.3478, B: 2085.43, beta: 0.3658, E: 1.8172 },
  note: 'bootstrap standard errors: A 124.5, alpha 0.0154, B 1293.3, beta 0.0206, E 0.0257',
};
