import { describe, expect, it } from 'vitest';
import { evaluate, largestDifference, real } from '../../../test/support/evaluate.ts';
import { affine } from '../../graph/ops/affine.ts';
import { add, div, mul, sub } from '../../graph/ops/arithmetic.ts';
import { swiglu } from '../../graph/ops/swiglu.ts';
import * as unary from '../../graph/ops/unary.ts';
import { gaussian } from '../op-case.ts';
import { erfc } from './erf.ts';

describe('arithmetic', () => {
  it('broadcasts [4, 1, 3] against [2, 1]', async () => {
    const a = gaussian(1, [12]);
    const b = gaussian(2, [2]);
    const expected: Record<'add' | 'sub' | 'mul' | 'div', number[]> = { add: [], sub: [], mul: [], div: [] };
    for (let i = 0; i < 4; i++) {
      for (let j = 0; j < 2; j++) {
        for (let k = 0; k < 3; k++) {
          expected.add.push(a[i * 3 + k] + b[j]);
          expected.sub.push(a[i * 3 + k] - b[j]);
          expected.mul.push(a[i * 3 + k] * b[j]);
          expected.div.push(a[i * 3 + k] / b[j]);
        }
      }
    }
    for (const [name, op] of Object.entries({ add, sub, mul, div }))
      expect(await evaluate(op, real([4, 1, 3], a), real([2, 1], b)), name).toEqual(expected[name as 'add']);
  });

  it('adds a bias and a scalar', async () => {
    expect(await evaluate(add, real([2, 3], [1, 2, 3, 4, 5, 6]), real([3], [10, 20, 30]))).toEqual([
      11, 22, 33, 14, 25, 36,
    ]);
    expect(await evaluate(sub, real([], [1]), real([3], [1, 2, 3]))).toEqual([0, -1, -2]);
  });

  it('affine scales, then shifts', async () => {
    expect(await evaluate((x) => affine(x, { scale: 3, offset: -1 }), real([2], [2, -2]))).toEqual([5, -7]);
  });
});

// Values of erfc and of the activations at 1 as tabulated (Abramowitz and Stegun table 7.1; PyTorch in float64).
const erfcTable: [number, number][] = [
  [0, 1],
  [0.5, 0.4795001221869535],
  [1, 0.15729920705028513],
  [2, 0.004677734981047266],
  [3, 2.209049699858544e-5],
  [5, 1.5374597944280349e-12],
  [-1, 1.8427007929497148],
];

describe('unary', () => {
  it.each(erfcTable)('erfc(%f)', (x, expected) => {
    expect(Math.abs(erfc(x) / expected - 1)).toBeLessThan(1e-13);
  });

  it('erfc has the slope −2/√π·e^−x² where series and continued fraction meet', () => {
    const slope = (erfc(2) - erfc(1.9999)) / 1e-4;
    expect(slope).toBeCloseTo((-2 / Math.sqrt(Math.PI)) * Math.exp(-(1.99995 ** 2)), 9);
  });

  it('knows the activations at 1 and −1', async () => {
    const x = real([2], [1, -1]);
    const at = async (op: (typeof unary)['silu'], expected: number[]) =>
      expect(largestDifference(await evaluate(op, x), expected)).toBeLessThan(1e-14);
    await at(unary.sigmoid, [0.7310585786300049, 0.2689414213699951]);
    await at(unary.silu, [0.7310585786300049, -0.2689414213699951]);
    await at(unary.gelu, [0.8413447460685429, -0.15865525393145707]);
    await at(unary.geluTanh, [0.8411919906082768, -0.15880800939172324]);
    await at(unary.tanh, [0.7615941559557649, -0.7615941559557649]);
    await at(unary.exp, [Math.E, 1 / Math.E]);
    await at(unary.negate, [-1, 1]);
    await at(unary.relu, [1, 0]);
    await at(unary.square, [1, 1]);
  });

  it('takes roots and logarithms', async () => {
    expect(await evaluate(unary.sqrt, real([2], [4, 0.25]))).toEqual([2, 0.5]);
    expect(await evaluate(unary.rsqrt, real([2], [4, 0.25]))).toEqual([0.5, 2]);
    expect(await evaluate(unary.log, real([2], [1, 0]))).toEqual([0, -Infinity]);
  });

  it('stays finite far out', async () => {
    const x = real([4], [-1000, 1000, -50, 50]);
    expect(largestDifference(await evaluate(unary.silu, x), [0, 1000, -50 * Math.exp(-50), 50])).toBeLessThan(1e-12);
    expect(largestDifference(await evaluate(unary.gelu, x), [0, 1000, 0, 50])).toBeLessThan(1e-12);
    expect(await evaluate(unary.sigmoid, real([2], [-1000, 1000]))).toEqual([0, 1]);
  });

  it('swiglu is silu(gate) · up', async () => {
    const gate = gaussian(1, [7]);
    const up = gaussian(2, [7]);
    const expected = [...gate].map((g, i) => (g / (1 + Math.exp(-g))) * up[i]);
    expect(largestDifference(await evaluate(swiglu, real([7], gate), real([7], up)), expected)).toBeLessThan(1e-15);
  });
});
