// Integer against float formats at fine granularity (arXiv 2510.25602): crossovers, Monte Carlo, rotation, the tensors
// of a real model, and symmetric clipping.

import { formatPairs } from '../src/quantize/qsnr/pairs.ts';
import { crestCurve, crossoverSection, curveSection } from '../src/quantize/qsnr/report-theory.ts';
import type { Report, Reproduction } from '../src/report/reproduction.ts';
import { clippingClaims } from './int-fp/clipping.ts';
import { modelClaims } from './int-fp/model.ts';
import { crossoverClaims, crossoverCorrections, monteCarlo, rotationClaims } from './int-fp/theory.ts';

const samples = 2 ** 20;

const reproduction: Reproduction = {
  name: 'int-vs-fp',
  summary: 'integer against float formats: crossovers, Monte Carlo QSNR, a real model, symmetric clipping',
  async run({ seed, signal, onProgress }): Promise<Report> {
    const step = (fraction: number, what: string) => {
      signal?.throwIfAborted();
      onProgress?.(fraction, what);
    };
    const simulated = monteCarlo(samples, seed + 1);
    step(0.2, 'Monte Carlo');
    const curves = formatPairs.map((pair) => crestCurve(pair, { samples, seed: seed + 1 }));
    step(0.4, 'crest factors');
    const clipping = clippingClaims(seed + 1);
    step(0.5, 'clipping');
    const model = await modelClaims(seed, signal, (fraction) => step(0.5 + 0.5 * fraction, 'model'));
    const blocks = formatPairs.map((p) => `${p.names.join('/')} ${p.block}`).join(', ');
    return {
      title: 'Integer against float formats with fine-grained scales',
      paper: 'Chen et al., arXiv 2510.25602 v1.',
      protocol: `Closed forms with the overhead of the scale ρ = 1.5 (powers of two) and 1.05 (E4M3). Monte Carlo: ${samples.toLocaleString('en')} values of each signal in rows of 4096 through the reference codec, seed ${seed + 1}; blocks ${blocks}; power-of-two scales rounded up. ${model.protocol}`,
      claims: [
        ...crossoverClaims(),
        ...simulated.claims,
        ...rotationClaims(samples, seed + 1),
        ...clipping.claims,
        ...model.claims,
      ],
      corrections: crossoverCorrections(curves.map((c) => c.simulated?.toFixed(2) ?? 'none')),
      sections: [
        crossoverSection(curves),
        ...curves.map(curveSection),
        simulated.section,
        ...model.sections,
        clipping.section,
      ],
    };
  },
};

export default reproduction;
