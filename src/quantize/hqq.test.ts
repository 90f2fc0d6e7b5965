import { describe, expect, test } from 'vitest';
import { dequantize, quantize } from '../formats/quantize.ts';
import { parseFormat } from '../formats/registry.ts';
import { gaussianMatrix } from './gaussian.ts';
import type { Fit } from './gptq/fit.ts';
import { studentMatrix } from './gptq/testing.ts';
import { defaultHqqOptions, quantizeHqq } from './hqq.ts';

const fit: Fit = async (values, rows, cols, format) => quantize(values, rows, cols, format);
const hqq = (w: Float32Array, rows: number, cols: number, name: string, options = defaultHqqOptions) =>
  quantizeHqq(w, rows, cols, parseFormat(name), fit, 'up_proj', options);

function errors(w: Float32Array, values: Float32Array): { squared: number; absolute: number } {
  let [s2, a1, w2, w1] = [0, 0, 0, 0];
  w.forEach((v, i) => {
    s2 += (v - values[i]) ** 2;
    a1 += Math.abs(v - values[i]);
    w2 += v * v;
    w1 += Math.abs(v);
  });
  return { squared: s2 / w2, absolute: a1 / w1 };
}

// acceptance F of the method card: 512 × 2048 weights 0.02 · t(4), groups of 64, within 30 % and falling
describe('recipe R3', () => {
  const [rows, cols] = [512, 2048];
  const w = studentMatrix(rows, cols, 4, 3).map((v) => 0.02 * v);
  test.each([
    ['int4-g64-asymf', 0.0138, 0.0127, 0.04],
    ['int3-g64-asymf', 0.0634, 0.0578, 0.04],
    ['int2-g64-asymf', 0.349, 0.271, 0.1],
  ])('%s', async (name, plainTarget, target, gain) => {
    const plain = errors(w, dequantize(quantize(w, rows, cols, parseFormat(name))));
    const fitted = errors(w, dequantize(await hqq(w, rows, cols, name)));
    for (const [value, wanted] of [
      [plain.squared, plainTarget],
      [fitted.squared, target],
    ]) {
      expect(value).toBeGreaterThan(0.7 * wanted);
      expect(value).toBeLessThan(1.3 * wanted);
    }
    expect(fitted.squared).toBeLessThan(plain.squared);
    // the card saw this gain in the mean absolute error; half of it is required
    expect(fitted.absolute).toBeLessThan(plain.absolute * (1 - gain / 2));
  });
});

test('one group, by the published iteration', async () => {
  // float32 scales and minima: nothing but the method decides
  const w = studentMatrix(1, 64, 4, 11);
  const plain = quantize(w, 1, 64, parseFormat('int3-g64-asymf-f32s'));
  const scale = new Float32Array(plain.scales.buffer)[0];
  const low = w.reduce((a, v) => Math.min(a, v), Infinity);
  const clamp = (q: number) => Math.min(Math.max(q, 0), 7);
  let z = -low / scale;
  let beta = 10;
  let best = { error: Infinity, z };
  for (let k = 0; k < 21; k++) {
    const q = Array.from(w, (v) => clamp(Math.round(v / scale + z)));
    const error = q.reduce((a, c, i) => a + Math.abs(w[i] - (c - z) * scale), 0);
    if (error >= best.error) break;
    best = { error, z };
    const e = q.map((c, i) => {
      const x = w[i] - (c - z) * scale;
      return Math.sign(x) * Math.max(0, Math.abs(x) - Math.abs(x) ** -0.3 / beta);
    });
    z = q.reduce((a, c, i) => a + c - (w[i] - e[i]) / scale, 0) / 64;
    beta *= 1.01;
  }
  const fitted = await hqq(w, 1, 64, 'int3-g64-asymf-f32s');
  // the error is flat where as many errors are positive as negative: compare it and not z
  const error = dequantize(fitted).reduce((a, y, i) => a + Math.abs(w[i] - y), 0);
  expect(error).toBeCloseTo(best.error, 5);
  expect(error).toBeLessThan(0.99 * dequantize(plain).reduce((a, y, i) => a + Math.abs(w[i] - y), 0));
  expect(fitted.scales).toEqual(plain.scales);
});

test.each([
  'int4-g32-asym',
  'int2-g64-asym',
  'int3-channel-asymf',
  'int4-tensor-asym',
  'int4-tile2x32-asymf',
  'int4-g32-asym-mse',
])('%s: no group gets worse, zero points are what the format stores', async (name) => {
  const [rows, cols] = [6, 128];
  const w = studentMatrix(rows, cols, 4, 5).map((v, i) => (i < cols ? 0 : 0.01 * v + (i < 2 * cols ? 0.4 : 0)));
  const plain = quantize(w, rows, cols, parseFormat(name));
  const fitted = await hqq(w, rows, cols, name);
  expect(fitted.scales).toEqual(plain.scales);
  const [after, before] = [fitted, plain].map((q) => dequantize(q));
  if (/-g|channel/.test(name)) {
    for (let r = 1; r < rows; r++) {
      const part = (x: Float32Array) => x.subarray(r * cols, (r + 1) * cols);
      const [a, b] = [after, before].map((y) => errors(part(w), part(y)).absolute);
      expect(a).toBeLessThanOrEqual(b);
    }
  }
  const [a, b] = [after, before].map((y) => errors(w, y).absolute);
  if (name.includes('asymf')) {
    expect(a).toBeLessThan(b);
    return;
  }
  // whole steps: few groups can gain
  expect(a).toBeLessThanOrEqual(b);
  const qmax = name.startsWith('int2') ? 3 : name.startsWith('int3') ? 7 : 15;
  expect(Math.max(...fitted.zeroPoints!)).toBeLessThanOrEqual(qmax);
});

test('small weights survive, and repeating it changes nothing', async () => {
  const w = gaussianMatrix(2, 64, 1).map((v) => v * 1e-6);
  const fitted = await hqq(w, 2, 64, 'int4-g64-asymf-f32s');
  expect(errors(w, dequantize(fitted)).squared).toBeLessThan(0.02);
  expect(await hqq(w, 2, 64, 'int4-g64-asymf-f32s')).toEqual(fitted);
});

test('zero iterations are plain rounding of the same scales; formats without zero points are refused', async () => {
  const w = gaussianMatrix(2, 64, 1);
  const still = await hqq(w, 2, 64, 'int4-g64-asymf', { ...defaultHqqOptions, iterations: 0 });
  expect(still).toEqual(quantize(w, 2, 64, parseFormat('int4-g64-asymf')));
  for (const name of ['int4-g64', 'mxfp4', 'q4_1', 'nf4-g64', 'bf16'])
    await expect(hqq(w, 2, 64, name)).rejects.toThrow(
      `hqq: it fits zero points, and this format has none, got ${name}`,
    );
});
