// Ops that work on the last axis: reductions, softmax, norms, Hadamard, topK.

import { describe, expect, it } from 'vitest';
import { evaluate, evaluateAll, largestDifference, real } from '../../../test/support/evaluate.ts';
import { hadamard } from '../../graph/ops/hadamard.ts';
import { layerNorm, rmsNorm } from '../../graph/ops/norm.ts';
import { argmax, max, mean, sum } from '../../graph/ops/reduce.ts';
import { softmax } from '../../graph/ops/softmax.ts';
import { topK } from '../../graph/ops/top-k.ts';
import { gaussian } from '../op-case.ts';

describe('reduce', () => {
  const x = gaussian(1, [3, 5, 7]);
  const at = (i: number, j: number, k: number) => x[(i * 5 + j) * 7 + k];

  it('sums, averages and takes the maximum over chosen axes', async () => {
    const expected: { sum: number[]; mean: number[]; max: number[] } = { sum: [], mean: [], max: [] };
    for (let j = 0; j < 5; j++) {
      let total = 0;
      let largest = -Infinity;
      for (let i = 0; i < 3; i++) {
        for (let k = 0; k < 7; k++) {
          total += at(i, j, k);
          largest = Math.max(largest, at(i, j, k));
        }
      }
      expected.sum.push(total);
      expected.mean.push(total / 21);
      expected.max.push(largest);
    }
    const operand = real([3, 5, 7], x);
    for (const [name, op] of Object.entries({ sum, mean, max })) {
      const found = await evaluateAll(
        (v) => [op(v, { axes: [2, 0] }), op(v, { axes: [0, 2], keepDims: true })],
        operand,
      );
      expect(found.map((f) => f.shape)).toEqual([[5], [1, 5, 1]]);
      for (const { data } of found) expect(largestDifference(data, expected[name as 'sum']), name).toBeLessThan(1e-13);
    }
  });

  it('reduces everything to a scalar', async () => {
    const [found] = await evaluateAll((v) => [sum(v)], real([2, 3], [1, 2, 3, 4, 5, 6]));
    expect(found).toEqual({ shape: [], data: [21] });
  });

  it('NaN makes every reduction NaN', async () => {
    for (const op of [sum, mean, max])
      expect(await evaluate((v) => op(v), real([3], [1, Number.NaN, 2]))).toEqual([Number.NaN]);
  });

  it('argmax takes the first of equal values', async () => {
    expect(await evaluate(argmax, real([3, 4], [1, 5, 5, 0, 2, 2, 2, 2, -3, -2, -1, -1]))).toEqual([1, 0, 2]);
  });
});

describe('softmax', () => {
  it('knows [1, 2, 3] and does not mind a shift', async () => {
    const known = [0.09003057317038046, 0.24472847105479767, 0.6652409557748219];
    const found = await evaluate(softmax, real([2, 3], [1, 2, 3, 1001, 1002, 1003]));
    expect(largestDifference(found, [...known, ...known])).toBeLessThan(1e-13);
  });

  it('gives −infinity nothing', async () => {
    expect(await evaluate(softmax, real([1, 3], [-Infinity, 0, 0]))).toEqual([0, 0.5, 0.5]);
  });
});

describe('norms', () => {
  it('rmsNorm of [3, 4] divides by √12.5', async () => {
    const found = await evaluate((x, w) => rmsNorm(x, w, { epsilon: 0 }), real([1, 2], [3, 4]), real([2], [1, 10]));
    expect(largestDifference(found, [3 / Math.sqrt(12.5), 40 / Math.sqrt(12.5)])).toBeLessThan(1e-14);
  });

  it('epsilon stands beside the mean square', async () => {
    const found = await evaluate((x, w) => rmsNorm(x, w, { epsilon: 3 }), real([1, 2], [1, 1]), real([2], [1, 1]));
    expect(found).toEqual([0.5, 0.5]);
  });

  it('layerNorm rows have mean 0 and variance 1 before weight and bias', async () => {
    const C = 37;
    const operands = [
      real([5, C], gaussian(1, [5, C])),
      real([C], new Float32Array(C).fill(2)),
      real([C], new Float32Array(C).fill(3)),
    ];
    const y = await evaluate((x, w, b) => layerNorm(x, w, b, { epsilon: 0 }), ...operands);
    for (let row = 0; row < 5; row++) {
      const z = y.slice(row * C, (row + 1) * C).map((v) => (v - 3) / 2);
      expect(z.reduce((a, b) => a + b) / C).toBeCloseTo(0, 12);
      expect(z.reduce((a, b) => a + b * b, 0) / C).toBeCloseTo(1, 12);
    }
  });
});

describe('hadamard', () => {
  it('multiplies by (−1)^popcount(i AND j) / √n, signs first', async () => {
    const n = 16;
    const x = gaussian(1, [2, 3 * n]);
    const signs = Float32Array.from({ length: n }, (_, i) => (i % 3 === 1 ? -1 : 1));
    const expected = Array.from({ length: 6 * n }, (_, at) => {
      const first = Math.floor(at / n) * n;
      let total = 0;
      for (let j = 0; j < n; j++) {
        const ones = [...((at % n) & j).toString(2)].filter((bit) => bit === '1').length;
        total += (-1) ** ones * signs[j] * x[first + j];
      }
      return total / Math.sqrt(n);
    });
    const found = await evaluate(
      (v, s) => hadamard(v, { blockSize: n, signs: s }),
      real([2, 3 * n], x),
      real([n], signs),
    );
    expect(largestDifference(found, expected)).toBeLessThan(1e-13);
  });

  it('is its own inverse without signs', async () => {
    const x = gaussian(2, [3, 64]);
    const twice = await evaluate((v) => hadamard(hadamard(v, { blockSize: 32 }), { blockSize: 32 }), real([3, 64], x));
    expect(largestDifference(twice, [...x])).toBeLessThan(1e-14);
  });
});

describe('topK', () => {
  it('sorts descending, the lower index first on ties', async () => {
    const x = real([2, 5], [1, 7, 7, -Infinity, 3, 0, 0, 0, 0, 0]);
    const [values, indices] = await evaluateAll((v) => Object.values(topK(v, 4)), x);
    expect(values).toEqual({ shape: [2, 4], data: [7, 7, 3, 1, 0, 0, 0, 0] });
    expect(indices).toEqual({ shape: [2, 4], data: [1, 2, 4, 0, 0, 1, 2, 3] });
  });
});
