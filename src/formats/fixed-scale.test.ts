import { describe, expect, it } from 'vitest';
import { type FixedScale, fixedScaleOf, fixedScaleProblem, takesFixedScale } from './fixed-scale.ts';
import type { QuantSpec } from './format.ts';
import { dequantize, quantize } from './quantize.ts';
import { parseFormat } from './registry.ts';

const spec = (name: string) => parseFormat(name) as QuantSpec;
const codes = (x: number[], name: string, fixed: FixedScale) => [
  ...quantize(Float32Array.from(x), 1, x.length, spec(name), { fixed }).codes,
];

describe('a fixed scale', () => {
  it('follows from a range', () => {
    expect(fixedScaleOf(spec('int8-tensor'), -2, 6.35)).toEqual({ scale: Math.fround(Math.fround(6.35) / 127) });
    expect(fixedScaleOf(spec('int8-tensor'), -8, 6.35)).toEqual({ scale: Math.fround(8 / 127) });
    expect(fixedScaleOf(spec('fp8-e4m3-tensor'), -7, 1)).toEqual({ scale: 7 / 448 });
    expect(fixedScaleOf(spec('int8-tensor-asym'), -1, 4.1)).toEqual({ scale: Math.fround(5.1 / 255), zeroPoint: 50 });
    // the range is widened to hold zero
    expect(fixedScaleOf(spec('int8-tensor-asym'), 2, 5.1)).toEqual({ scale: Math.fround(5.1 / 255), zeroPoint: 0 });
    expect(fixedScaleOf(spec('int8-tensor-asym'), -5.1, -2)).toEqual({ scale: Math.fround(5.1 / 255), zeroPoint: 255 });
    expect(fixedScaleOf(spec('int8-tensor'), 0, 0)).toEqual({ scale: Math.fround(1 / 127) });
    expect(fixedScaleOf(spec('int8-tensor'), 0, 1e-45)).toEqual({ scale: 2 ** -100 });
    expect(fixedScaleOf(spec('int8-tensor-asym'), -3e38, 3e38)).toEqual({ scale: 2 ** 100, zeroPoint: 255 });
  });

  it('is what rounding uses: within the range to nearest even, beyond it the last code', () => {
    expect(codes([0.24, 0.25, 0.75, -0.8, 63.5, 64, 1e30, -63.5, -64, -1e30], 'int8-tensor', { scale: 0.5 })).toEqual(
      [0, 0, 2, -2, 127, 127, 127, -127, -127, -127].map((q) => q & 255),
    );
    expect(codes([-64, -1e30, 64], 'int8-tensor-half', { scale: 0.5 })).toEqual([128, 128, 127]);
    expect(codes([-2, -2.5, -1e9, 0, 1, 122.5, 1e9], 'int8-tensor-asym', { scale: 0.5, zeroPoint: 4 })).toEqual([
      0, 0, 0, 4, 6, 249, 255,
    ]);
    const q = quantize(Float32Array.of(3, 300, -1e9, 500), 1, 4, spec('fp8-e4m3-tensor'), { fixed: { scale: 0.25 } });
    expect([...dequantize(q)]).toEqual([3, 112, -112, 112]);
  });

  it('is the dynamic scale where it covers the largest magnitude', () => {
    const x = Float32Array.from({ length: 96 }, (_, i) => Math.sin(i * 1.7) * 3);
    const amax = x.reduce((m, v) => Math.max(m, Math.abs(v)), 0);
    const [min, max] = [Math.min(...x), Math.max(...x)];
    for (const name of ['int8-tensor', 'int8-tensor-half', 'int4-tensor', 'fp8-e4m3-tensor', 'fp8-e5m2-tensor'])
      expect(quantize(x, 2, 48, spec(name), { fixed: fixedScaleOf(spec(name), 0, amax) })).toEqual(
        quantize(x, 2, 48, spec(name)),
      );
    const asym = spec('int8-tensor-asym');
    expect(quantize(x, 2, 48, asym, { fixed: fixedScaleOf(asym, min, max) })).toEqual(quantize(x, 2, 48, asym));
  });

  it('suits per-tensor integers and minifloats only', () => {
    for (const name of ['int8-tensor', 'int4-tensor-asym', 'fp8-e4m3-tensor', 'int8-tensor-sr'])
      expect(takesFixedScale(spec(name)), name).toBe(true);
    for (const name of ['int8-token', 'int8-tensor-f16s', 'int8-tensor-mse', 'int8-tensor-asymf', 'mxfp4', 'bf16'])
      expect(takesFixedScale(parseFormat(name)), name).toBe(false);
    expect(() => codes([1], 'int8-token', { scale: 1 })).toThrow('does not suit the format');
  });

  it.each([
    ['int8-tensor', { scale: 0 }, /from 2\^-100/],
    ['int8-tensor', { scale: -1 }, /from 2\^-100/],
    ['int8-tensor', { scale: Number.NaN }, /from 2\^-100/],
    ['int8-tensor', { scale: 1e38 }, /to 2\^100/],
    ['int8-tensor', { scale: 1, zeroPoint: 0 }, /no zero point/],
    ['int8-tensor-asym', { scale: 1 }, /from 0 to 255/],
    ['int8-tensor-asym', { scale: 1, zeroPoint: 256 }, /from 0 to 255/],
    ['int8-tensor-asym', { scale: 1, zeroPoint: 1.5 }, /from 0 to 255/],
  ])('%s with %j is refused', (name, fixed, says) => {
    expect(fixedScaleProblem(spec(name), fixed)).toMatch(says);
    expect(() => codes([1], name, fixed)).toThrow('does not suit the format');
  });
});
