import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { QuantSpec } from '../../formats/format.ts';
import { encodeInt } from '../../formats/int.ts';
import { dequantize, quantize } from '../../formats/quantize.ts';
import { parseFormat } from '../../formats/registry.ts';
import { gaussianMatrix } from '../gaussian.ts';
import { studentMatrix } from '../gptq/testing.ts';
import { createExtrema } from './extrema.ts';
import { createHistogram, type Histogram } from './histogram.ts';
import { entropyRange, percentileRange, squaredErrorRange } from './histogram-range.ts';

const histogramOf = (...pieces: Float32Array[]): Histogram => {
  const h = createHistogram('x');
  for (const piece of pieces) h.add(piece);
  return h;
};

describe('histogram', () => {
  test('counts do not depend on order and pieces', () => {
    const values = fc.array(fc.float({ noNaN: true, noDefaultInfinity: true, min: -1e6, max: 1e6 }), { maxLength: 60 });
    fc.assert(
      fc.property(values, fc.nat(60), (list, cut) => {
        const x = Float32Array.from(list);
        const whole = histogramOf(x);
        const pieces = histogramOf(x.slice(cut), x.slice(0, cut).reverse());
        expect([pieces.width, pieces.amax, pieces.total]).toEqual([whole.width, whole.amax, whole.total]);
        expect(pieces.counts).toEqual(whole.counts);
        expect(whole.counts.reduce((a, b) => a + b, 0)).toBe(x.length);
        // one pass with the final range
        const direct = new Float64Array(2048);
        for (const v of x) direct[Math.floor(Math.abs(v) / whole.width)]++;
        expect(direct).toEqual(whole.counts);
        if (whole.amax > 0) expect(whole.amax).toBeGreaterThanOrEqual(1024 * whole.width);
      }),
    );
  });

  test('the smallest and the largest numbers', () => {
    expect(histogramOf(Float32Array.of(1e-45)).counts[1024]).toBe(1);
    const top = 3.4028234663852886e38;
    expect(histogramOf(Float32Array.of(0, top)).counts[2047]).toBe(1);
    expect(() => createHistogram('layers.0.down_proj').add(Float32Array.of(1, Number.NaN))).toThrow(
      'calibrate: an activation is not finite, got NaN, expected finite numbers (tensor layers.0.down_proj)',
    );
  });
});

test('percentile: the first edge with that share below it, at most the largest magnitude', () => {
  const x = Float32Array.from({ length: 10_000 }, (_, i) => i + 0.5);
  const h = histogramOf(x); // range 16384, bins of 8
  expect(h.width).toBe(8);
  expect(percentileRange(h, 99)).toBe(9904);
  expect(percentileRange(h, 50)).toBe(5000);
  expect(percentileRange(h, 100)).toBe(9999.5);
  const outlier = histogramOf(gaussianMatrix(100, 1000, 1), Float32Array.of(500));
  const range = percentileRange(outlier, 99.99);
  expect(range).toBeGreaterThan(3.7);
  expect(range).toBeLessThan(4.5);
});

test.each([
  ['int8-token', 400],
  ['int4-token', 400],
  ['fp8-e4m3-token', 400],
  ['int4-token-half', 400],
])('mse, %s: the bin center with the smallest error, by trying all', (name) => {
  const spec = parseFormat(name) as QuantSpec;
  const x = studentMatrix(1, 3000, 3, 5);
  const h = histogramOf(x);
  const last = h.counts.findLastIndex((c) => c > 0);
  const centers = Float64Array.from({ length: last + 1 }, (_, i) => (i + 0.5) * h.width);
  let best = { error: Infinity, range: 0 };
  for (let i = 128; i <= last; i += 1) {
    const range = Math.min(centers[i], h.amax);
    // the codec itself: a row whose maximum is the candidate fixes the scale
    const row = Float32Array.from([range, ...centers].map((c) => Math.min(c, range)));
    const y = dequantize(quantize(row, 1, row.length, spec)).subarray(1);
    const error = h.counts.reduce((s, c, b) => (b > last ? s : s + c * (centers[b] - y[b]) ** 2), 0);
    if (error < best.error) best = { error, range };
  }
  const found = squaredErrorRange(h, spec);
  // the codec rounds scales and values to float32: neighbours may swap
  const errorOf = (range: number) => {
    const row = Float32Array.from([range, ...centers].map((c) => Math.min(c, range)));
    const y = dequantize(quantize(row, 1, row.length, spec)).subarray(1);
    return h.counts.reduce((s, c, b) => (b > last ? s : s + c * (centers[b] - y[b]) ** 2), 0);
  };
  expect(errorOf(found) / best.error).toBeLessThan(1.001);
  expect(found).toBeLessThan(h.amax);
});

/** NVIDIA's program, written after its source's description: numpy's digitize over linspace, scipy's entropy. */
function publishedEntropy(counts: Float64Array, width: number, bits: number): number {
  const bins = [...counts];
  bins[0] = bins[1];
  const levels = 2 ** (bits - 1);
  let best = { divergence: Infinity, edge: 0 };
  for (let i = 128; i <= bins.length; i++) {
    const level = Array.from({ length: i }, (_, b) => {
      let k = 0;
      while (k + 1 < levels && (k + 1) * (i / levels) <= b) k++;
      return bins[b] === 0 ? -1 : k;
    });
    const sums = new Float64Array(levels);
    const filled = new Float64Array(levels);
    for (const [b, k] of level.entries()) {
      if (k < 0) continue;
      sums[k] += bins[b];
      filled[k]++;
    }
    const q = level.map((k) => (k < 0 ? 0 : sums[k] / filled[k]));
    const p = bins.slice(0, i);
    p[i - 1] += bins.slice(i).reduce((a, b) => a + b, 0);
    const sumP = p.reduce((a, b) => a + b, 0);
    const sumQ = q.reduce((a, b) => a + b, 0);
    let divergence = 0;
    for (let b = 0; b < i; b++) {
      if (p[b] === 0) continue;
      divergence += q[b] === 0 ? Infinity : (p[b] / sumP) * Math.log(p[b] / sumP / (q[b] / sumQ));
    }
    if (divergence <= best.divergence + 1e-12)
      best = { divergence: Math.min(divergence, best.divergence), edge: i * width };
  }
  return best.edge;
}

describe('entropy', () => {
  test.each([
    ['Gaussian', gaussianMatrix(20, 1000, 3), 8],
    ['Student-t', studentMatrix(20, 1000, 4, 3), 8],
    ['rectified', gaussianMatrix(20, 1000, 4).map((v) => Math.max(v, 0)), 8],
    ['with outliers', gaussianMatrix(20, 1000, 5).map((v, i) => (i % 1999 === 0 ? 9 * v : v)), 6],
    ['few values', gaussianMatrix(1, 300, 5), 4],
  ])('%s: the edge that the published program takes', (_, x, bits) => {
    const h = histogramOf(x);
    const last = h.counts.findLastIndex((c) => c > 0);
    const published = publishedEntropy(h.counts.slice(0, last + 1), h.width, bits);
    expect(entropyRange(h, bits)).toBe(Math.min(published, h.amax));
  });

  test('nothing, zeros, one value', () => {
    expect(entropyRange(createHistogram('x'), 8)).toBe(0);
    expect(entropyRange(histogramOf(new Float32Array(10)), 8)).toBe(0);
    expect(entropyRange(histogramOf(Float32Array.of(-3)), 8)).toBe(3);
    expect(squaredErrorRange(histogramOf(new Float32Array(10)), parseFormat('int8-token') as QuantSpec)).toBe(0);
    expect(percentileRange(createHistogram('x'), 99.99)).toBe(0);
  });
});

test('ranges that clip pay off: int4 error of heavy-tailed data', () => {
  const x = studentMatrix(40, 1000, 4, 7);
  const h = histogramOf(x);
  const error = (range: number) => x.reduce((s, v) => s + (v - encodeInt(v, range / 7, -7, 7) * (range / 7)) ** 2, 0);
  const plain = error(h.amax);
  const ranges = [
    squaredErrorRange(h, parseFormat('int4-token') as QuantSpec),
    percentileRange(h, 99.9),
    entropyRange(h, 4),
  ];
  for (const range of ranges) expect(error(range)).toBeLessThan(0.7 * plain);
  // and the search for the squared error finds the best of them
  expect(Math.min(...ranges.map(error))).toBe(error(ranges[0]));
});

test('extrema: of everything, mean over samples, moving average', () => {
  const e = createExtrema('x', 0.1);
  expect([e.all, e.mean, e.moving]).toEqual(Array(3).fill({ min: 0, max: 0 }));
  e.add(Float32Array.of(1, 2, 3));
  expect(e.all).toEqual({ min: 1, max: 3 });
  e.add(new Float32Array(0));
  e.add(Float32Array.of(-1, 5));
  e.add(Float32Array.of(0, 1));
  expect(e.all).toEqual({ min: -1, max: 5 });
  expect(e.mean).toEqual({ min: 0, max: 3 });
  expect(e.moving.min).toBeCloseTo(0.9 * (0.9 * 1 - 0.1), 12);
  expect(e.moving.max).toBeCloseTo(0.9 * (0.9 * 3 + 0.5) + 0.1, 12);
  expect(() => e.add(Float32Array.of(Infinity))).toThrow('an activation is not finite, got Infinity');
});
