// Can the coefficients of the QAT law be found from its grid of runs? Synthetic runs with noise, fitted many times.

import { chinchilla } from '../../src/laws/chinchilla.ts';
import { attainableError } from '../../src/laws/cramer-rao.ts';
import { fitLaw } from '../../src/laws/fit.ts';
import { predict } from '../../src/laws/law.ts';
import { type QatOperands, qatBase, qatGap, qatPublished } from '../../src/laws/qat.ts';
import { chart } from '../../src/plot/plot.ts';
import { gaussianMatrix } from '../../src/quantize/gaussian.ts';
import { erf } from '../../src/quantize/qsnr/theory.ts';
import { type Claim, factClaim, numberClaim, type Section, type Verdict } from '../../src/report/reproduction.ts';

/** Sizes of the published models with their hidden widths, the group of per-token scales. */
const sizes = [
  [74317824, 768],
  [144703488, 1024],
  [297271296, 1536],
  [594542592, 1536],
] as const;
const tokens = [1e10, 2e10, 5e10, 1e11];
const grid = sizes.flatMap(([n, width]) =>
  tokens.flatMap((d) => [32, 64, 128, 256, width].map((group) => ({ n, d, group }))),
);

const exponents = ['gammaN', 'gammaD', 'gammaG'] as const;
const noises = [0.0005, 0.001, 0.002] as const;
type Bounds = Record<(typeof noises)[number], readonly [number, number, number]>;

/** Distances within which 90 % of fits are expected, for γN, γD and γG. */
const expected: Record<'w4a4' | 'w4a16' | 'w16a4', Bounds> = {
  w4a4: { 0.0005: [0.002, 0.002, 0.007], 0.001: [0.004, 0.003, 0.011], 0.002: [0.009, 0.007, 0.028] },
  w4a16: { 0.0005: [0.005, 0.004, 0.017], 0.001: [0.011, 0.009, 0.032], 0.002: [0.023, 0.019, 0.068] },
  w16a4: { 0.0005: [0.003, 0.002, 0.009], 0.001: [0.005, 0.005, 0.019], 0.002: [0.012, 0.01, 0.039] },
};

export interface Recovery {
  operands: QatOperands;
  noise: number;
  /** Fits within the expected distance, by exponent. */
  within: [number, number, number];
  /** Of δ over the grid. */
  meanError: number;
  estimates: [number, number, number][];
  /** The same shares for an estimator that reaches the Cramér-Rao bound. */
  attainable: number[];
}

/** All operand sets and noise levels; `onProgress` gets the fraction done. */
export async function recover(trials: number, seed: number, onProgress: (done: number) => void): Promise<Recovery[]> {
  const results: Recovery[] = [];
  for (const operands of ['w4a4', 'w4a16', 'w16a4'] as const)
    for (const noise of noises) {
      results.push(recoverOne(operands, noise, trials, seed + results.length));
      onProgress(results.length / 9);
      await new Promise(setImmediate);
    }
  return results;
}

function recoverOne(
  operands: keyof typeof expected,
  noise: (typeof noises)[number],
  trials: number,
  seed: number,
): Recovery {
  const truth = qatPublished[operands].values;
  const normal = gaussianMatrix(trials, grid.length, seed);
  const exact = grid.map((p) => predict(qatGap, truth, p));
  const bounds = expected[operands][noise];
  const within: [number, number, number] = [0, 0, 0];
  const estimates: [number, number, number][] = [];
  let meanError = 0;
  for (let trial = 0; trial < trials; trial++) {
    const runs = grid.map((p, i) => ({
      ...p,
      observed: exact[i] + noise * normal[trial * grid.length + i],
      label: `run ${i}`,
    }));
    const { values } = fitLaw(qatGap, runs, { residual: 'nats', huber: 3 * noise });
    estimates.push(exponents.map((name) => values[name]) as [number, number, number]);
    exponents.forEach((name, i) => {
      if (Math.abs(values[name] - truth[name]) <= bounds[i]) within[i]++;
    });
    for (const [i, p] of grid.entries())
      meanError += Math.abs(predict(qatGap, values, p) / exact[i] - 1) / grid.length / trials;
  }
  return { operands, noise, within, meanError, estimates, attainable: attainableShares(truth, noise, bounds) };
}

/** Shares within the bounds of estimates that reach the Cramér-Rao bound: erf(bound/(SE·√2)). */
function attainableShares(truth: Readonly<Record<string, number>>, noise: number, bounds: readonly number[]): number[] {
  return exponents.map((name, i) => {
    const error = attainableError(qatGap, truth, grid, { noise, residual: 'nats' }, (v) => v[name]);
    return erf(bounds[i] / (error * Math.SQRT2));
  });
}

/**
 * 90 % of fits within the distances; a share that chance explains (two standard errors, those of the distances too, which
 * come from 200 trials) is within noise.
 */
export function recoveryClaims(results: readonly Recovery[], trials: number): Claim[] {
  const chance = 2 * Math.sqrt(0.9 * 0.1 * (1 / trials + 1 / 200));
  const claims = results.flatMap(({ operands, noise, within, attainable }) =>
    exponents.map((name, i): Claim => {
      const share = within[i] / trials;
      const verdict: Verdict = share >= 0.9 ? 'holds' : share >= 0.9 - chance ? 'within noise' : 'does not hold';
      const bound = expected[operands as keyof typeof expected][noise as (typeof noises)[number]][i];
      return {
        claim: `${operands}, noise ${noise} nats: ${name} within ${bound}`,
        expected: '90 % of fits',
        found: `${(100 * share).toFixed(1)} %`,
        verdict,
        note: `${trials} trials, two standard errors ${(100 * chance).toFixed(1)} %; an efficient estimator reaches ${(100 * attainable[i]).toFixed(1)} %`,
      };
    }),
  );
  const w4a4 = results.find((r) => r.operands === 'w4a4' && r.noise === 0.001) as Recovery;
  const error = `${(100 * w4a4.meanError).toFixed(2)} %`;
  return [...claims, factClaim('W4A4, noise 0.001: mean error of the gap', '≤ 0.3 %', error, w4a4.meanError <= 0.003)];
}

export function baselineClaims(seed: number): Claim[] {
  const runs = (noise: number) => {
    const normal = gaussianMatrix(1, 16, seed);
    return sizes.flatMap(([n], i) =>
      tokens.map((d, j) => ({
        n,
        d,
        observed: predict(chinchilla, qatBase.values, { n, d }) * Math.exp(noise * normal[4 * i + j]),
        label: `run ${4 * i + j}`,
      })),
    );
  };
  const tied = { tied: { beta: 'alpha' } };
  const exact = fitLaw(chinchilla, runs(0), tied).values;
  const noisy = fitLaw(chinchilla, runs(1e-3), tied).values;
  const truth = qatBase.values;
  const worst = Math.max(...Object.keys(truth).map((name) => Math.abs(exact[name] / truth[name] - 1)));
  return [
    factClaim('the BF16 law from 16 noiseless runs, α = β', 'within 1 %', worst.toExponential(1), worst < 0.01),
    numberClaim('E from 16 runs with 0.1 % noise', truth.E, noisy.E, { tolerance: 0.05 }),
    numberClaim('α from 16 runs with 0.1 % noise', truth.alpha, noisy.alpha, { tolerance: 0.02 }),
  ];
}

/** Laws without D or G on exact runs of the full law. */
export function reducedClaims(): Claim[] {
  const error = (operands: QatOperands, frozen: Record<string, number>) => {
    const truth = qatPublished[operands].values;
    const runs = grid.map((p, i) => ({ ...p, observed: predict(qatGap, truth, p), label: `run ${i}` }));
    const { residuals } = fitLaw(qatGap, runs, { huber: 0.02, frozen });
    return residuals.reduce((sum, r) => sum + Math.abs(r), 0) / residuals.length;
  };
  const percent = (v: number) => `${(100 * v).toFixed(1)} %`;
  const sizeOnly = error('w4a4', { gammaD: 0, gammaG: 0 });
  const full = error('w4a4', {});
  const [w4a4, w4a16] = (['w4a4', 'w4a16'] as const).map((operands) => error(operands, { gammaD: 0 }));
  return [
    factClaim(
      'a law of N alone misses the gaps',
      'at least twice the error',
      `${percent(sizeOnly)} against ${percent(full)}`,
      sizeOnly > 2 * full && sizeOnly > 0.02,
    ),
    factClaim(
      'leaving out D hurts W4A16 more than W4A4 (measured 13.8 % and 8.6 %)',
      'so',
      `${percent(w4a16)} and ${percent(w4a4)}`,
      w4a16 > w4a4,
      'mean |ln error| on exact runs',
    ),
  ];
}

export function exponentPlot(results: readonly Recovery[]): Section {
  const chosen = results.filter((r) => r.noise === 0.001);
  const spec = chart({
    title: 'Exponents recovered from synthetic runs, noise of 0.001 nats',
    subtitle: 'each point one fit of 80 runs; lines: the published values',
    x: { title: 'γN' },
    y: { title: 'γD' },
    series: chosen.map((r) => ({
      name: r.operands,
      style: 'points',
      points: r.estimates.slice(0, 200).map(([n, d]) => [n, d] as const),
    })),
    rules: chosen.map((r) => ({ axis: 'x', at: qatPublished[r.operands].values.gammaN, label: r.operands })),
  });
  return { title: 'How well the exponents can be known', plot: { name: 'recovery', spec } };
}
