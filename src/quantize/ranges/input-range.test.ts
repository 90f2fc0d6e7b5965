import { describe, expect, test } from 'vitest';
import type { QuantSpec } from '../../formats/format.ts';
import { parseFormat } from '../../formats/registry.ts';
import { gaussianMatrix } from '../gaussian.ts';
import { observeRange } from './input-range.ts';

const format = (name: string) => parseFormat(name) as QuantSpec;
const observed = (counting: boolean, ...parts: Float32Array[]) => {
  const range = observeRange('layers.0.down_proj', counting);
  for (const part of parts) range.add(part);
  return range;
};

describe('the range of an input', () => {
  const x = gaussianMatrix(100, 1000, 5).map((v) => v + 0.5);
  x[123] = 40;
  x[456] = -30;
  const sorted = x.map(Math.abs).sort();

  test('minmax: the extremes, whatever the pieces', () => {
    const whole = observed(false, x);
    const pieces = observed(false, x.subarray(50_000), x.subarray(0, 50_000));
    for (const range of [whole, pieces]) {
      expect(range.choose({ format: format('int8-tensor'), clip: 'minmax' })).toEqual({
        min: -30,
        max: 40,
        amax: 40,
        fixed: { scale: Math.fround(40 / 127) },
      });
      expect(range.choose({ format: format('int8-tensor-asym'), clip: 'minmax' }).fixed).toEqual({
        scale: Math.fround(70 / 255),
        zeroPoint: Math.round(30 / (70 / 255)),
      });
    }
  });

  test('percentile: the magnitude below which that share lies, to a bin; a format with a zero point is cut there', () => {
    const range = observed(true, x);
    for (const percentile of [90, 99, 99.9]) {
      const exact = sorted[Math.ceil((percentile / 100) * x.length) - 1];
      const chosen = range.choose({ format: format('int8-tensor'), clip: 'percentile', percentile });
      expect(chosen.max).toBeGreaterThanOrEqual(exact);
      expect(chosen.max).toBeLessThan(exact + 64 / 2048);
      expect(chosen.fixed.scale).toBe(Math.fround(Math.fround(chosen.max) / 127));
      expect(chosen.amax).toBe(40);
    }
    const positive = observed(true, x.map(Math.abs));
    const asym = positive.choose({ format: format('int8-tensor-asym'), clip: 'percentile', percentile: 99 });
    expect(asym.min).toBeGreaterThanOrEqual(0);
    expect(asym.fixed.zeroPoint).toBe(0);
  });

  test('mse: no larger squared error than at any of the ranges 1.1, 1.2, … 12', () => {
    // the search begins at 1/16 of the histogram, which reaches to 16
    const y = x.map((v) => Math.min(Math.max(v, -9), 12));
    const { fixed } = observed(true, y).choose({ format: format('int4-tensor'), clip: 'mse' });
    const error = (scale: number) =>
      y.reduce((sum, v) => sum + (v - scale * Math.min(Math.max(Math.round(v / scale), -7), 7)) ** 2, 0);
    const others = Array.from({ length: 110 }, (_, i) => error((1.1 + i / 10) / 7));
    expect(error(fixed.scale)).toBeLessThan(1.002 * Math.min(...others));
    expect(fixed.scale).toBeLessThan(6 / 7);
  });

  test('kl and mse of floats: within the extremes', () => {
    const range = observed(true, x);
    for (const rule of [
      { format: format('int8-tensor'), clip: 'kl' },
      { format: format('fp8-e4m3-tensor'), clip: 'mse' },
    ] as const) {
      const { max } = range.choose(rule);
      expect(max).toBeGreaterThan(3);
      expect(max).toBeLessThanOrEqual(40);
    }
  });

  test('nothing but zeros, or nothing at all', () => {
    for (const range of [observed(true), observed(true, new Float32Array(50))])
      for (const clip of ['minmax', 'percentile', 'mse', 'kl'] as const)
        expect(range.choose({ format: format('int8-tensor'), clip, percentile: 99 })).toEqual({
          min: expect.closeTo(0),
          max: expect.closeTo(0),
          amax: expect.closeTo(0),
          fixed: { scale: Math.fround(1 / 127) },
        });
  });
});
