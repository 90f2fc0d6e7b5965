import { describe, expect, it } from 'vitest';
import { interval, intervalClaim, isAbove, isBetween, studentQuantile, studentWithin } from './statistics.ts';

describe("Student's t", () => {
  it('has the quantiles of the tables', () => {
    const table = [
      [0.95, 1, 6.3138],
      [0.95, 2, 2.92],
      [0.95, 3, 2.3534],
      [0.975, 4, 2.7764],
      [0.95, 5, 2.015],
      [0.99, 10, 2.7638],
      [0.95, 31, 1.6955],
    ];
    for (const [p, freedom, t] of table) expect(studentQuantile(p, freedom)).toBeCloseTo(t, 3);
  });

  it('is the integral of its density', () => {
    for (const freedom of [1, 2, 3, 6, 7]) {
      const density = (t: number) => (1 + (t * t) / freedom) ** (-(freedom + 1) / 2);
      const integral = (to: number) => {
        let sum = 0;
        const n = 200_000;
        for (let i = 0; i < n; i++) sum += density(((i + 0.5) / n) * to);
        return (sum / n) * to;
      };
      // the whole mass by the substitution t = √ν tan θ
      let whole = 0;
      for (let i = 0; i < 10_000; i++) whole += Math.cos((((i + 0.5) / 10_000) * Math.PI) / 2) ** (freedom - 1);
      whole *= (Math.sqrt(freedom) * Math.PI) / 2 / 10_000;
      expect(studentWithin(1.7, freedom)).toBeCloseTo(integral(1.7) / whole, 6);
    }
  });
});

describe('verdicts', () => {
  it('need the whole interval on one side', () => {
    const clear = interval([0.05, 0.06, 0.055]);
    const vague = interval([0.05, -0.02, 0.01]);
    expect([isAbove(clear, 0), isAbove(vague, 0), isAbove(interval([-0.05, -0.06, -0.055]), 0)]).toEqual([
      'holds',
      'within noise',
      'does not hold',
    ]);
    expect(isBetween(clear, [0, 0.1])).toBe('holds');
    expect(isBetween(clear, [0.056, 0.1])).toBe('within noise');
    expect(isBetween(clear, [0.1, 0.2])).toBe('does not hold');
  });

  it('say nothing of one seed', () => {
    const one = interval([0.5]);
    expect(isAbove(one, 0)).toBe('within noise');
    expect(intervalClaim('x', 'y', one, 'within noise', 'seeds').note).toContain('one only');
  });
});
