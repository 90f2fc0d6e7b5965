// How well k-quants do on heavy-tailed weights, and what importance buys: W 128 × 2048 = 0.02·t(6), importance
// exp(1.2·N(0, 1)) a column. Errors are squared, relative to ΣW². Targets ±30 % (another draw), orderings strict.
//
// The min–max grid that the search is held against is computed here: a sub-block's scale is (max − min)/15, its scales
// and minima are six-bit codes under f16 super-scales, as in the format.

import { beforeAll, describe, expect, test } from 'vitest';
import { f16Bits, f16Value } from '../bits.ts';
import type { GgmlTypeName } from '../format.ts';
import { dequantize, quantize } from '../quantize.ts';
import { uniformSource } from '../random.ts';
import { parseFormat } from '../registry.ts';
import { dequantizeGgml, quantizeGgml } from './quantize.ts';

const [rows, cols] = [128, 2048];
const random = uniformSource(2026, 1);
let drawn = 0;
const normal = () => {
  const u = random.at(drawn++);
  return Math.sqrt(-2 * Math.log(1 - u)) * Math.cos(2 * Math.PI * random.at(drawn++));
};
const studentT6 = () =>
  normal() / Math.sqrt(Array.from({ length: 6 }, () => normal() ** 2).reduce((a, b) => a + b) / 6);

let weight: Float32Array;
let importance: Float32Array;
beforeAll(() => {
  weight = Float32Array.from({ length: rows * cols }, () => 0.02 * studentT6());
  importance = Float32Array.from({ length: cols }, () => Math.exp(1.2 * normal()));
});

/** Σ w·(x − y)²/Σ w·x², w = 1 without weights. */
function nmse(y: Float32Array, w?: Float32Array): number {
  let error = 0;
  let total = 0;
  for (let i = 0; i < weight.length; i++) {
    const c = w ? w[i % cols] : 1;
    error += c * (weight[i] - y[i]) ** 2;
    total += c * weight[i] ** 2;
  }
  return error / total;
}

const f16 = (x: number) => f16Value(f16Bits(x));

/** Values of Q4_K with min–max grids in its sub-blocks. */
function minMax(x: Float32Array): Float32Array {
  const out = new Float32Array(x.length);
  for (let at = 0; at < x.length; at += 256) {
    const parts = Array.from({ length: 8 }, (_, j) => x.subarray(at + 32 * j, at + 32 * j + 32));
    const mins = parts.map((p) => Math.max(0, -Math.min(...p)));
    const scales = parts.map((p, j) => (Math.max(...p) + mins[j]) / 15);
    const [d, dmin] = [f16(Math.max(...scales) / 63), f16(Math.max(...mins) / 63)];
    for (const [j, p] of parts.entries()) {
      const scale = d * Math.round((63 * scales[j]) / Math.max(...scales));
      const min = dmin * Math.round((63 * mins[j]) / Math.max(...mins));
      for (const [i, v] of p.entries()) {
        const code = Math.max(0, Math.min(15, Math.round((v + min) / scale)));
        out[at + 32 * j + i] = scale * code - min;
      }
    }
  }
  return out;
}

const ggml = (type: GgmlTypeName, w?: Float32Array) =>
  dequantizeGgml(type, quantizeGgml(type, weight, rows, cols, w), rows, cols);

describe('4 bits', () => {
  test('errors are those expected, in their order', () => {
    const errors = {
      'absmax/7 g32': nmse(dequantize(quantize(weight, rows, cols, parseFormat('int4-g32')))),
      Q4_0: nmse(ggml('q4_0')),
      'asymmetric g32': nmse(dequantize(quantize(weight, rows, cols, parseFormat('int4-g32-asym')))),
      'Q4_K min–max': nmse(minMax(weight)),
      Q4_K: nmse(ggml('q4_k')),
    };
    const targets = [0.0137, 0.0107, 0.0082, 0.0077, 0.0066];
    for (const [i, [name, error]] of Object.entries(errors).entries()) {
      expect(error / targets[i], `${name} ${error}`).toBeGreaterThan(0.7);
      expect(error / targets[i], `${name} ${error}`).toBeLessThan(1.3);
    }
    const values = Object.values(errors);
    expect(values).toEqual([...values].sort((a, b) => b - a));
    expect(errors.Q4_K).toBeLessThan(0.9 * errors['Q4_K min–max']);
  });
});

test('Q4_K under importance: the weighted error is the expected one', () => {
  expect(nmse(ggml('q4_k', importance), importance) / 0.0053).toBeGreaterThan(0.7);
  expect(nmse(ggml('q4_k', importance), importance) / 0.0053).toBeLessThan(1.3);
  expect(nmse(ggml('q4_k'), importance) / 0.0066).toBeGreaterThan(0.7);
  expect(nmse(ggml('q4_k'), importance) / 0.0066).toBeLessThan(1.3);
});

const searched: GgmlTypeName[] = ['q3_k', 'q4_k', 'q5_k', 'q6_k', 'iq4_nl', 'iq4_xs'];
/**
 * Without importance these take the extremes as they are (Q2_K: search for the absolute error), so that importance
 * brings a search for the squared error as well, and both errors fall.
 */
const unsearched: GgmlTypeName[] = ['q2_k', 'q4_0', 'q4_1', 'q5_0', 'q5_1'];

test.each(searched)('%s: importance lowers the weighted error and raises the plain one', (type) => {
  const [plain, weighted] = [ggml(type), ggml(type, importance)];
  expect(nmse(weighted, importance)).toBeLessThan(0.9 * nmse(plain, importance));
  expect(nmse(weighted)).toBeGreaterThan(nmse(plain));
});

test.each(unsearched)('%s: importance lowers the weighted error', (type) => {
  expect(nmse(ggml(type, importance), importance)).toBeLessThan(0.9 * nmse(ggml(type), importance));
});
