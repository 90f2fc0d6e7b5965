import { describe, expect, it } from 'vitest';
import { gaussian } from '../../test/fixtures/laws/published.ts';
import { chinchilla, chinchillaRefit } from './chinchilla.ts';
import { attainableError } from './cramer-rao.ts';
import { fitLaw } from './fit.ts';
import { predict } from './law.ts';
import { qatGap, qatPublished } from './qat.ts';

const points = [1e8, 3e8, 1e9, 3e9].flatMap((n) => [5, 20, 80, 320].map((ratio) => ({ n, d: n * ratio })));
const { values } = chinchillaRefit;

describe('the Cramér-Rao bound', () => {
  it('is what fits of noisy runs reach, for parameters and for a prediction far outside', () => {
    const noise = gaussian(3);
    const far = { n: 1e11, d: 2e12 };
    const quantities: ((v: Readonly<Record<string, number>>) => number)[] = [
      (v) => v.alpha!,
      (v) => v.E!,
      (v) => predict(chinchilla, v, far),
    ];
    const trials = 150;
    const squares = [0, 0, 0];
    for (let trial = 0; trial < trials; trial++) {
      const runs = points.map((p) => ({
        ...p,
        observed: predict(chinchilla, values, p) * Math.exp(1e-3 * noise()),
        label: 'run',
      }));
      const fitted = fitLaw(chinchilla, runs, { huber: 5e-3 }).values;
      quantities.forEach((q, i) => {
        squares[i]! += (q(fitted) - q(values)) ** 2 / trials;
      });
    }
    // The root mean square of 150 errors is known to 6 %.
    quantities.forEach((q, i) => {
      const bound = attainableError(chinchilla, values, points, { noise: 1e-3 }, q);
      expect(Math.sqrt(squares[i]!) / bound).toBeGreaterThan(0.85);
      expect(Math.sqrt(squares[i]!) / bound).toBeLessThan(1.15);
    });
  });

  it('halves with four times the runs, and in nats does not depend on the amplitude', () => {
    const grid = points.flatMap((p) => [32, 256].map((group) => ({ ...p, group })));
    const alpha = (of: typeof grid) =>
      attainableError(qatGap, qatPublished.w4a4.values, of, { noise: 1e-3, residual: 'nats' }, (v) => v.gammaN!);
    expect(alpha([...grid, ...grid, ...grid, ...grid]) / alpha(grid)).toBeCloseTo(0.5, 6);
  });

  it('is an error when the points determine nothing', () => {
    const line = points.filter((p) => p.n === 1e9);
    expect(() => attainableError(chinchilla, values, line, { noise: 1e-3 }, (v) => v.alpha!)).toThrow(
      'chinchilla: the points do not determine the parameters, got 4 points for 5 parameters; add points',
    );
  });
});
