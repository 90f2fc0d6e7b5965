// Quartet's scaling law (arXiv 2505.14669) refitted from its recorded runs, with the QuEST efficiencies over the same
// base and the Chinchilla refit (arXiv 2404.10102).

import { bootstrap } from '../src/laws/bootstrap.ts';
import { chinchilla, chinchillaPublished } from '../src/laws/chinchilla.ts';
import { type Fit, fitLaw } from '../src/laws/fit.ts';
import { predict } from '../src/laws/law.ts';
import { outerExponent, quartetBase } from '../src/laws/outer-exponent.ts';
import type { Run } from '../src/laws/runs.ts';
import { equalCostLosses } from '../src/laws/speed-up.ts';
import { chart, logSpace, regionMap } from '../src/plot/plot.ts';
import { factClaim, type Report, type Reproduction, type Section } from '../src/report/reproduction.ts';
import {
  baseClaims,
  chinchillaClaims,
  crossoverClaims,
  efficiencies,
  efficiencyClaims,
  heldOutClaims,
  huber,
  published,
  questClaims,
  readRuns,
  roundingClaims,
  stochastic,
} from './quartet/claims.ts';

function lossPlot(base: Fit, runs: readonly Run[]): Section {
  const sizes = [...new Set(runs.map((r) => r.n))].sort((a, b) => a - b);
  const ds = runs.map((r) => r.d);
  const line = logSpace(Math.min(...ds), Math.max(...ds), 40);
  const label = (n: number) => runs.find((r) => r.n === n)?.extra.size_label ?? String(n);
  const spec = chart({
    title: 'Quartet: the BF16 runs and the refitted base law',
    subtitle: 'points: recorded runs; lines: (A/N^α + B/D^β)^γ + E',
    x: { title: 'D, training tokens', scale: 'log' },
    y: { title: 'validation loss on C4, nats a token' },
    series: sizes.flatMap((n) => [
      { name: label(n), points: line.map((d) => [d, predict(outerExponent, base.values, { n, d })] as const) },
      {
        name: label(n),
        style: 'points' as const,
        points: runs.filter((r) => r.n === n).map((r) => [r.d, r.observed] as const),
      },
    ]),
  });
  return { title: 'The base law', plot: { name: 'base', spec } };
}

function regionPlot(): Section {
  const pairs = ['8:8', '8:4', '4:8', '4:4'] as const;
  const name = { '8:8': 'FP8:FP8', '8:4': 'FP8:FP4', '4:8': 'FP4:FP8', '4:4': 'FP4:FP4' };
  const winner = (n: number, ratio: number) => {
    const losses = equalCostLosses(outerExponent, quartetBase.values, published, { n, d: n * ratio });
    return name[pairs.reduce((a, b) => (losses[b] < losses[a] ? b : a))];
  };
  const spec = regionMap({
    title: 'Which precision is best at equal cost (forward:backward)',
    subtitle: 'ideal speed-ups of 2; budget of inference and training in units of FP8',
    x: { title: 'N that the inference budget allows in FP8' },
    y: { title: 'D/N of the training budget in FP8' },
    xs: logSpace(1e7, 1e12, 80),
    ys: logSpace(5, 5000, 80),
    names: Object.values(name),
    regionAt: winner,
  });
  return { title: 'Regions of the best precision', plot: { name: 'regions', spec } };
}

const reproduction: Reproduction = {
  name: 'quartet-law',
  summary: "Quartet's scaling law from its recorded runs, and the Chinchilla refit",
  async run({ seed, onProgress }): Promise<Report> {
    const runs = readRuns();
    const bf16 = runs.of('BF16', 'BF16');
    const base = fitLaw(outerExponent, bf16, { huber });
    onProgress?.(0.2, 'base');
    const spread = bootstrap(base, { samples: 400, seed: seed + 1 });
    onProgress?.(0.4, 'bootstrap');
    const plain = fitLaw(outerExponent, bf16, { huber, frozen: { gamma: 1 } });
    const digitised = runs.all.filter((r) => r.extra.source === 'chinchilla-epoch');
    const kept = fitLaw(
      chinchilla,
      digitised.filter((r) => r.extra.note !== 'excluded_outlier'),
    );
    const whole = fitLaw(chinchilla, digitised);
    onProgress?.(0.6, 'Chinchilla');
    const keptErrors = bootstrap(kept, { samples: 200, seed: seed + 1 }).errors;
    onProgress?.(0.9, 'efficiencies');
    const held = heldOutClaims(runs);
    const forwardSr = runs.of(stochastic, 'BF16');
    const diverged = runs.all.filter((r) => r.diverged && r.extra.note === 'fit_v1');
    const allRuns = efficiencies('QuEST', stochastic, runs.of('QuEST', stochastic));
    const withoutDiverged = efficiencies(stochastic, 'BF16', forwardSr).effN;
    const claims = [
      ...baseClaims(base, spread.errors),
      factClaim('Huber cost of the base fit', '≤ 1.8763e-6', base.cost.toExponential(4), base.cost <= 1.8763e-6),
      ...efficiencyClaims(runs),
      factClaim(
        'the diverged run is flagged, not fitted',
        'one of the first-release runs',
        diverged.map((r) => `${r.label}: ${r.reason}`).join('; '),
        diverged.length === 1 && diverged[0].extra.size_label === '30M',
      ),
      factClaim(
        'the outer exponent lowers the Huber cost',
        '≥ 3.5 times',
        `${(plain.cost / base.cost).toFixed(2)} times`,
        plain.cost / base.cost >= 3.5,
      ),
      ...held.claims,
      ...crossoverClaims(),
      ...roundingClaims(runs),
      ...questClaims(runs),
      factClaim('Chinchilla refit, objective on 240 runs', '≤ 0.0010183', kept.cost.toFixed(7), kept.cost <= 0.0010183),
      ...chinchillaClaims(kept, keptErrors),
    ];
    onProgress?.(1, 'report');
    return {
      title: "Quartet's scaling law from its recorded runs",
      paper:
        'Castro et al., arXiv 2505.14669; runs of its notebook (first release), of QuEST (arXiv 2502.05003), and the Chinchilla runs digitised for arXiv 2404.10102.',
      protocol: `${runs.all.length} recorded runs (reproduce/data/quartet-runs.csv); ${bf16.length} BF16 runs for the base, efficiencies over the published base held fixed. Huber's function on log losses, threshold 1e-4 (Chinchilla: 1e-3), the sum over runs, 24 refined starts. Bootstrap of 400 samples (Chinchilla 200), seed ${seed + 1}. N counts non-embedding parameters; Chinchilla's counts all.`,
      claims,
      corrections: [
        {
          printed: 'Quartet has effN 0.64 and effD 0.94.',
          instead: `These describe 8 short runs of 30M and 50M. All 21 runs of the scheme give ${allRuns.effN.toFixed(3)} and ${allRuns.effD.toFixed(3)}.`,
          evidence:
            'Both pairs of numbers come out of the same runs and the same frozen base, once restricted to fewer than 90,000 and 30,000 steps (see the claims). effD depends on how long the runs are.',
        },
        {
          printed:
            'With γ = 1 the base fit has A 28.13, α 0.1873, B 177.7, β 0.2796, E 1.7131 at a Huber cost of 7.80e-6.',
          instead: `That is not the minimum: A ${plain.values.A.toPrecision(4)}, α ${plain.values.alpha.toFixed(4)}, B ${plain.values.B.toPrecision(4)}, β ${plain.values.beta.toFixed(4)}, E ${plain.values.E.toFixed(4)} has ${plain.cost.toExponential(2)}.`,
          evidence: `${plain.agreeing} of ${plain.starts} refined starts end there; the published grid of starts missed it.`,
        },
        {
          printed: 'Forward stochastic rounding has effN 0.435.',
          instead: `One of its six runs diverged (${diverged[0]?.reason ?? 'none flagged'}). Without it: ${withoutDiverged.toFixed(4)}.`,
          evidence: 'More tokens raised its loss; no other run of the first release does that by more than 0.02 nats.',
        },
        {
          printed: `Chinchilla's own fit: E ${chinchillaPublished.values.E.toFixed(3)}, α 0.339, β 0.285.`,
          instead: `The digitised runs give E ${kept.values.E.toFixed(3)}, α ${kept.values.alpha.toFixed(3)}, β ${kept.values.beta.toFixed(3)}.`,
          evidence: `Objective of the published values on the same 240 runs: ${objectiveOf(kept, chinchillaPublished.values).toFixed(4)}, of the refit ${kept.cost.toFixed(5)}. The refit rests on leaving out five outliers: with them B is ${whole.values.B.toFixed(0)} in place of ${kept.values.B.toFixed(0)}.`,
        },
      ],
      sections: [
        lossPlot(base, bf16),
        {
          title: 'Held-out FP4 runs',
          text: 'Predictions at the recorded tokens with effN 0.6478 and effD 0.8918.',
          table: { columns: ['size', 'measured', 'predicted', 'measured − predicted'], rows: held.rows },
        },
        regionPlot(),
        {
          title: 'How well the runs determine the base',
          text: `90 % bootstrap intervals. ${base.identifiability.entangled.length > 0 ? `Estimates that move together: ${base.identifiability.entangled.map(([a, b, c]) => `${a} and ${b} (${c.toFixed(3)})`).join(', ')}.` : ''}`,
          table: {
            columns: ['parameter', 'refitted', 'low', 'high'],
            rows: base.free.map((name) => [
              name,
              ...[base.values[name], ...spread.intervals[name]].map((v) => v.toPrecision(4)),
            ]),
          },
        },
      ],
    };
  },
};

function objectiveOf(fitted: Fit, values: Readonly<Record<string, number>>): number {
  return fitLaw(chinchilla, fitted.runs, { frozen: values }).cost;
}

export default reproduction;
