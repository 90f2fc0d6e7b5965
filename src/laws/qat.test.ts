import { describe, expect, it } from 'vitest';
import { gaussian } from '../../test/fixtures/laws/published.ts';
import { chinchilla } from './chinchilla.ts';
import { gapsToTwins } from './divergence.ts';
import { fitLaw } from './fit.ts';
import { predict } from './law.ts';
import { type QatOperands, qatBase, qatCriticalTokens, qatEfficiency, qatGap, qatPublished } from './qat.ts';
import { parseRuns } from './runs.ts';

const gap = (operands: QatOperands, n: number, d: number, group: number) =>
  predict(qatGap, qatPublished[operands].values, { n, d, group });

describe('the law of quantization-aware training', () => {
  // Evaluated independently from the published coefficients: loss, δ of four operand sets, efficiency of W4A4.
  it.each([
    [74e6, 1e10, 32, 3.49, 0.0586, 0.0272, 0.0389, 0.0471, 0.828],
    [74e6, 1e10, 256, 3.49, 0.0844, 0.0321, 0.0616, 0.0553, 0.764],
    [595e6, 1e11, 32, 2.7407, 0.0441, 0.0186, 0.0287, 0.034, 0.768],
    [595e6, 1e11, 128, 2.7407, 0.0573, 0.021, 0.04, 0.0381, 0.712],
    [595e6, 1e11, 256, 2.7407, 0.0635, 0.022, 0.0456, 0.0399, 0.688],
    [973e6, 2e11, 128, 2.614, 0.0542, 0.0197, 0.0374, 0.0358, 0.69],
    [7e9, 2e12, 128, 2.2939, 0.0418, 0.014, 0.0282, 0.0265, 0.602],
  ])('N %d, D %d, G %d', (n, d, group, loss, w4a4, w4a16, w16a4, fc2, efficiency) => {
    expect(Math.abs(predict(chinchilla, qatBase.values, { n, d }) - loss)).toBeLessThanOrEqual(5.1e-5);
    const rounding = 5.1e-5;
    expect(Math.abs(gap('w4a4', n, d, group) - w4a4)).toBeLessThanOrEqual(rounding);
    expect(Math.abs(gap('w4a16', n, d, group) - w4a16)).toBeLessThanOrEqual(rounding);
    expect(Math.abs(gap('w16a4', n, d, group) - w16a4)).toBeLessThanOrEqual(rounding);
    expect(Math.abs(gap('w4a4-fc2a8', n, d, group) - fc2)).toBeLessThanOrEqual(rounding);
    expect(Math.abs(qatEfficiency(qatBase.values, gap('w4a4', n, d, group), n) - efficiency)).toBeLessThanOrEqual(2e-3);
  });

  it('loses nothing with a group of one and turns around at the critical tokens', () => {
    expect(gap('w4a4', 1e9, 1e10, 1)).toBe(0);
    const critical = qatCriticalTokens(qatBase.values, qatPublished.w4a4.values, 595e6, 128);
    expect(critical / 1e14).toBeCloseTo(2.8, 1);
    expect(qatCriticalTokens(qatBase.values, qatPublished.w4a16.values, 595e6, 128) / 1e14).toBeCloseTo(1.1, 1);
    const loss = (d: number) => predict(chinchilla, qatBase.values, { n: 595e6, d }) + gap('w4a4', 595e6, d, 128);
    expect(loss(critical * 0.8)).toBeGreaterThan(loss(critical));
    expect(loss(critical * 1.2)).toBeGreaterThan(loss(critical));
  });

  it('gives the published ratios of activation to weight error', () => {
    const ratio = (group: number, perParameter: number) =>
      gap('w16a4', 595e6, perParameter * 595e6, group) / gap('w4a16', 595e6, perParameter * 595e6, group);
    expect(ratio(32, 100)).toBeCloseTo(1.65, 2);
    expect(ratio(32, 1000)).toBeCloseTo(1.23, 2);
    expect(ratio(256, 1000)).toBeCloseTo(1.65, 2);
  });
});

// The published grid: four sizes, four token counts, four groups and the whole row (the hidden width).
const sizes = [
  [74317824, 768],
  [144703488, 1024],
  [297271296, 1536],
  [594542592, 1536],
] as const;
const grid = sizes.flatMap(([n, width]) =>
  [1e10, 2e10, 5e10, 1e11].flatMap((d) => [32, 64, 128, 256, width].map((group) => ({ n, d, group }))),
);

describe('recovery from noisy runs at the published grid', () => {
  // The noise is in nats whatever the gap, so the residuals are too: with log residuals 83 to 93 % land instead of 89 to
  // 97 %. 90 % of fits must land within these distances of the truth, for noise of 0.001 nats on the gap.
  it.each([
    ['w4a4', [0.004, 0.003, 0.011], 1],
    ['w4a16', [0.011, 0.009, 0.032], 2],
    ['w16a4', [0.005, 0.005, 0.019], 3],
  ] as const)('%s', (operands, tolerances, seed) => {
    const noise = gaussian(seed);
    const truth = qatPublished[operands].values;
    const trials = 40;
    const within = [0, 0, 0];
    let error = 0;
    for (let trial = 0; trial < trials; trial++) {
      const runs = grid.map((p) => ({ ...p, observed: predict(qatGap, truth, p) + 0.001 * noise(), label: 'run' }));
      const fitted = fitLaw(qatGap, runs, { residual: 'nats', huber: 0.002 });
      ['gammaN', 'gammaD', 'gammaG'].forEach((name, i) => {
        if (Math.abs(fitted.values[name]! - truth[name]!) <= tolerances[i]!) within[i]!++;
      });
      for (const p of grid)
        error += Math.abs(predict(qatGap, fitted.values, p) / predict(qatGap, truth, p) - 1) / grid.length / trials;
    }
    // 36 of 40 expected; 32 is two standard errors of a binomial below.
    for (const count of within) expect(count).toBeGreaterThanOrEqual(32);
    if (operands === 'w4a4') expect(error).toBeLessThanOrEqual(0.003);
  });

  it('recovers the baseline from 16 noiseless runs with α and β tied', () => {
    const runs = sizes.flatMap(([n]) =>
      [1e10, 2e10, 5e10, 1e11].map((d) => ({
        n,
        d,
        observed: predict(chinchilla, qatBase.values, { n, d }),
        label: 'run',
      })),
    );
    const fitted = fitLaw(chinchilla, runs, { tied: { beta: 'alpha' } });
    expect(fitted.free).toEqual(['A', 'alpha', 'B', 'E']);
    for (const [name, value] of Object.entries(qatBase.values))
      expect(Math.abs(fitted.values[name]! / value - 1), name).toBeLessThan(1e-4);
  });

  it('from a table of runs and their BF16 twins', () => {
    const truth = qatPublished.w16a4.values;
    const base = (p: { n: number; d: number }) => predict(chinchilla, qatBase.values, p);
    const rows = grid.flatMap((p) => [
      `${p.n},${p.d},BF16,,${base(p)}`,
      `${p.n},${p.d},INT4,${p.group},${base(p) + predict(qatGap, truth, p)}`,
    ]);
    const runs = parseRuns(['n_params,d_tokens,fwd,group_size,loss', ...rows].join('\n'), 'qat.csv');
    const gaps = gapsToTwins(runs, (r) => r.forward === 'BF16');
    expect(gaps).toHaveLength(80);
    const { values } = fitLaw(qatGap, gaps);
    for (const [name, value] of Object.entries(truth)) expect(values[name]! / value, name).toBeCloseTo(1, 6);
    const oneGroup = gaps.filter((r) => r.group === 32);
    expect(() => fitLaw(qatGap, oneGroup)).toThrow('all runs have the same group, so gammaG cannot be fitted, got 32');
    expect(fitLaw(qatGap, oneGroup, { frozen: { gammaG: truth.gammaG! } }).values.gammaN).toBeCloseTo(truth.gammaN!, 6);
  });

  it('a gap that noise made negative is refused in logarithms and fitted in nats', () => {
    const truth = qatPublished.w4a4.values;
    const runs = grid.map((p, i) => ({
      ...p,
      observed: i === 0 ? -1e-4 : predict(qatGap, truth, p),
      label: `run ${i}`,
    }));
    expect(() => fitLaw(qatGap, runs)).toThrow(
      'the gap of run 0 is not a positive number, got -0.0001; fit residuals in nats',
    );
    const { values } = fitLaw(qatGap, runs, { residual: 'nats', huber: 1e-4 });
    expect(Math.abs(values.gammaN! - truth.gammaN!)).toBeLessThan(0.005);
  });

  it('a law without D or G explains the gaps much worse', () => {
    const truth = qatPublished.w4a4.values;
    const runs = grid.map((p) => ({ ...p, observed: predict(qatGap, truth, p), label: 'run' }));
    const meanError = (frozen: Record<string, number>) => {
      const r = fitLaw(qatGap, runs, { huber: 0.02, frozen }).residuals;
      return r.reduce((sum, v) => sum + Math.abs(v), 0) / r.length;
    };
    expect(meanError({})).toBeLessThan(1e-6);
    expect(meanError({ gammaD: 0, gammaG: 0 })).toBeGreaterThan(0.1);
  });
});
