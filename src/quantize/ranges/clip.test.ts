import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createSolver, type Solver } from '../../backends/wasm/solver.ts';
import { dequantize, quantize } from '../../formats/quantize.ts';
import { parseFormat } from '../../formats/registry.ts';
import type { Fit } from '../gptq/fit.ts';
import { correlatedInputs, moments, outputError, studentMatrix } from '../gptq/testing.ts';
import { searchClip } from './clip.ts';

let solver: Solver;
beforeAll(async () => {
  solver = await createSolver({ threads: 1 });
});
afterAll(() => solver.dispose());

const fit: Fit = async (values, rows, cols, format) => quantize(values, rows, cols, format);
const [rows, cols, tokens] = [5, 256, 80];
const weight = studentMatrix(rows, cols, 4, 9).map((v, i) => 0.02 * v + (i < cols ? 0.01 : 0));
const x = correlatedInputs(tokens, cols, 4);
const gram = moments(x, x, cols);
const search = (name: string) => searchClip(weight, rows, cols, parseFormat(name), gram, { solver, fit }, 'up_proj');

/** Output errors of one row's columns c0 … c0 + n − 1, token by token. */
function groupError(d: Float32Array, row: number, c0: number, n: number): number {
  let total = 0;
  for (let t = 0; t < tokens; t++) {
    let y = 0;
    for (let j = 0; j < n; j++) y += d[row * cols + c0 + j] * x[t * cols + c0 + j];
    total += y * y;
  }
  return total;
}

test.each([
  ['int3-g32', 32, true],
  ['int4-g64-asym', 64, false],
  ['int2-g32-asymf', 32, false],
  ['int3-channel', 256, true],
  ['nf4-g64', 64, true],
  ['q4_0', 32, true],
  ['q4_1', 32, false],
])('%s: every group takes the bounds with the smallest output error', async (name, span, symmetric) => {
  const result = await search(name);
  expect(result.span).toBe(span);
  const format = parseFormat(name);
  const groups = cols / span;
  // the published loop: candidates outside, groups inside, tokens one by one
  const best = new Float64Array(rows * groups).fill(Infinity);
  const shrink = new Float32Array(rows * groups);
  for (let i = 0; i < 10; i++) {
    const p = 1 - i / 20;
    const clamped = weight.map((v, k) => {
      const start = Math.floor(k / span) * span;
      const group = weight.subarray(start, start + span);
      const amax = Math.max(...group.map(Math.abs));
      const low = symmetric ? -amax : Math.min(...group);
      const high = symmetric ? amax : Math.max(...group);
      return Math.min(Math.max(v, Math.fround(p * low)), Math.fround(p * high));
    });
    const d = dequantize(quantize(clamped, rows, cols, format)).map((y, k) => weight[k] - y);
    for (let g = 0; g < rows * groups; g++) {
      const error = groupError(d, Math.floor(g / groups), (g % groups) * span, span);
      if (error < best[g] * (1 - 1e-5)) {
        best[g] = error;
        shrink[g] = p;
      }
    }
  }
  expect([...result.shrink]).toEqual([...shrink]);
  expect(result.error / best.reduce((a, b) => a + b)).toBeCloseTo(1, 4);
  expect(result.error).toBeLessThan(result.plainError);
  expect(new Set(result.shrink).size).toBeGreaterThan(1);

  // the clamped weight, quantized, has these errors: groups are independent
  const d = dequantize(quantize(result.weight, rows, cols, format)).map((y, k) => weight[k] - y);
  let total = 0;
  for (let g = 0; g < rows * groups; g++) total += groupError(d, Math.floor(g / groups), (g % groups) * span, span);
  expect(total / result.error).toBeCloseTo(1, 4);
});

describe('effect', () => {
  test('at two bits clipping lowers the error of the layer', async () => {
    const format = parseFormat('int2-g64-asym');
    const { weight: clipped } = await search('int2-g64-asym');
    const error = (w: Float32Array) =>
      outputError(
        dequantize(quantize(w, rows, cols, format)).map((y, k) => weight[k] - y),
        x,
        cols,
      );
    expect(error(clipped)).toBeLessThan(0.8 * error(weight));
  });

  test('exactly stored weights are left alone', async () => {
    const exact = dequantize(quantize(weight, rows, cols, parseFormat('int4-g32')));
    const result = await searchClip(exact, rows, cols, parseFormat('int4-g32'), gram, { solver, fit }, 'w');
    expect([...new Set(result.shrink)]).toEqual([1]);
    expect(result.weight).toEqual(exact);
    expect([result.error, result.plainError]).toEqual([0, 0]);
  });
});

test('what cannot be clipped is refused', async () => {
  await expect(search('int4-tensor')).rejects.toThrow('clip: rows share scales, so that no row can be clipped');
  await expect(search('fp8-e4m3-tile128x128')).rejects.toThrow('rows share scales');
  await expect(search('int4-g4')).rejects.toThrow('got int4-g4: 4 columns, expected a multiple of 8 (tensor up_proj)');
  await expect(search('if4')).rejects.toThrow('clip: codes can be chosen only where');
});
