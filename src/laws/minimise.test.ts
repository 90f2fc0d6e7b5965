import { describe, expect, it } from 'vitest';
import { solvePositive, symmetricEigen } from './dense.ts';
import { huberCost, levenbergMarquardt, polish, type Residuals } from './minimise.ts';

const rosenbrock: Residuals = {
  parameters: 2,
  count: 2,
  lower: Float64Array.of(-5, -5),
  upper: Float64Array.of(5, 5),
  evaluate([x, y], r, j) {
    r.set([10 * (y! - x! * x!), 1 - x!]);
    j?.set([-20 * x!, 10, -1, 0]);
  },
};

describe('minimisation', () => {
  it('solves Rosenbrock from the usual start', () => {
    const { x, cost } = polish(rosenbrock, levenbergMarquardt(rosenbrock, Float64Array.of(-1.2, 1), 1e9), 1e9);
    expect(cost).toBeLessThan(1e-20);
    expect([...x].map((v) => v.toFixed(8))).toEqual(['1.00000000', '1.00000000']);
  });

  it('stops at the best point of the box', () => {
    const boxed = { ...rosenbrock, upper: Float64Array.of(0.5, 5) };
    const { x } = polish(boxed, levenbergMarquardt(boxed, Float64Array.of(-1.2, 1), 1e9), 1e9);
    expect(x[0]).toBe(0.5);
    expect(x[1]).toBeCloseTo(0.25, 8);
  });

  it('with a tiny threshold finds the median, as the absolute value would', () => {
    const data = [1, 2, 3, 50, 1000];
    const location: Residuals = {
      parameters: 1,
      count: data.length,
      lower: Float64Array.of(-1e4),
      upper: Float64Array.of(1e4),
      evaluate([m], r, j) {
        for (const [i, v] of data.entries()) r[i] = v - m!;
        j?.fill(-1);
      },
    };
    const { x } = polish(location, levenbergMarquardt(location, Float64Array.of(200), 1e-3), 1e-3);
    expect(Math.abs(x[0]! - 3)).toBeLessThan(1e-3);
  });

  it('Huber cost is quadratic inside and linear outside', () => {
    expect(huberCost(Float64Array.of(0.5, -3), 1)).toBeCloseTo(0.125 + 2.5, 12);
  });
});

describe('dense algebra', () => {
  it('solves and decomposes a small positive matrix', () => {
    const a = Float64Array.of(4, 1, 0.5, 1, 3, -0.2, 0.5, -0.2, 2);
    const x = solvePositive(a, Float64Array.of(1, 2, 3))!;
    for (let i = 0; i < 3; i++)
      expect(a[3 * i]! * x[0]! + a[3 * i + 1]! * x[1]! + a[3 * i + 2]! * x[2]!).toBeCloseTo(i + 1, 12);
    const { values, vectors } = symmetricEigen(a, 3);
    for (let e = 0; e < 3; e++)
      for (let i = 0; i < 3; i++) {
        const product = [0, 1, 2].reduce((s, k) => s + a[3 * i + k]! * vectors[3 * k + e]!, 0);
        expect(product).toBeCloseTo(values[e]! * vectors[3 * i + e]!, 12);
      }
    expect(solvePositive(Float64Array.of(1, 1, 1, 1), Float64Array.of(1, 1))).toBeUndefined();
  });
});
