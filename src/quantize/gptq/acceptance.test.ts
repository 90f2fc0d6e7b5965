// The acceptance tables A and B of the method card (ptq-core section 7), on its recipe R1: values within 30 %, orderings
// strict. Errors are NMSE of outputs on 2048 tokens that the solver has not seen.

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createSolver, type Solver } from '../../backends/wasm/solver.ts';
import { dequantize } from '../../formats/quantize.ts';
import { parseFormat } from '../../formats/registry.ts';
import { gaussianMatrix } from '../gaussian.ts';
import { openQuantizer } from '../tensor-quantizer.ts';
import { quantizerFit } from './fit.ts';
import { type LayerStatistics, prepareHessian } from './hessian.ts';
import { defaultGptqOptions, type GptqOptions } from './options.ts';
import { type SolveTools, solveLayer } from './solve-layer.ts';
import { moments, product, recipeInputs, studentMatrix } from './testing.ts';

const n = 512;
const tokens = 8192;
let solver: Solver;
let tools: SolveTools;
let close: () => void;
let weight: Float32Array;
/** Σ xᵀx, all of it, of calibration and of unseen tokens. */
let gram: Float32Array;
let testGram: Float32Array;

beforeAll(async () => {
  const quantizer = await openQuantizer({ threads: 1 });
  solver = await createSolver({ threads: 1 });
  tools = { solver, fit: quantizerFit(quantizer) };
  close = () => {
    quantizer.dispose();
    solver.dispose();
  };
  weight = studentMatrix(n, n, 6, 1).map((v) => 0.02 * v);
  const inputs = recipeInputs(tokens + 2048, n, 1);
  const whole = (x: Float32Array) => {
    const upper = moments(x, x, n);
    return upper.map((_, i) => upper[Math.min(Math.floor(i / n), i % n) * n + Math.max(Math.floor(i / n), i % n)]);
  };
  gram = whole(inputs.subarray(0, tokens * n));
  testGram = whole(inputs.subarray(tokens * n));
});
afterAll(() => close());

/** Σ over rows of d G dᵀ. */
function quadratic(matrix: Float32Array, d: Float32Array): number {
  const forms = solver.errors(matrix, undefined, n);
  const sum = forms.quadratic(d, n);
  forms.free();
  return sum;
}

async function solve(format: string, options: Partial<GptqOptions>, statistics: LayerStatistics) {
  const prepared = prepareHessian(statistics, { ...defaultGptqOptions, ...options }, solver, 'R1');
  const layer = await solveLayer(prepared, weight, n, n, parseFormat(format), tools, 'R1');
  expect(layer.fallback).toBeUndefined();
  if (options.asymmetry) expect(layer.objective).toBeLessThan(layer.rtnObjective!);
  else expect(layer.error).toBeLessThan(layer.rtnError);
  return dequantize(layer.quantized);
}

const within = (value: number, target: number) => {
  expect(value).toBeGreaterThan(0.7 * target);
  expect(value).toBeLessThan(1.3 * target);
};

describe('A: GPTQ and its orders', () => {
  const nmse = (values: Float32Array) =>
    quadratic(
      testGram,
      weight.map((w, i) => w - values[i]),
    ) / quadratic(testGram, weight);

  // plain rounding; natural order with groups fitted on the way; activation order with static groups; group order
  test.each([
    ['int4-channel-asym', 0.0287, 0.0055, 0.0015, 0.0015],
    ['int4-g128-asym', 0.0161, 0.0031, 0.00088, 0.00094],
    ['int3-g128-asym', 0.0736, 0.0151, 0.0041, 0.0045],
    ['int2-g128-asym', 0.348, 0.106, 0.023, 0.031],
  ])('%s', async (format, rtnTarget, naturalTarget, activationTarget, groupTarget) => {
    const statistics = { tokens, features: n, gram };
    const rtn = nmse(dequantize(await tools.fit(weight, n, n, parseFormat(format))));
    const natural = nmse(await solve(format, { staticGroups: false }, statistics));
    const activation = nmse(await solve(format, { order: 'activation' }, statistics));
    const group = nmse(await solve(format, { order: 'group', staticGroups: false }, statistics));
    const staticGroup = nmse(await solve(format, { order: 'group' }, statistics));
    within(rtn, rtnTarget);
    within(natural, naturalTarget);
    within(activation, activationTarget);
    within(group, groupTarget);
    expect(natural).toBeLessThanOrEqual(rtn / 3);
    expect(activation).toBeLessThanOrEqual(natural / 2);
    expect(staticGroup).toBeLessThanOrEqual(1.15 * activation);
  });
});

describe('B: asymmetry (GPTAQ)', () => {
  let statistics: LayerStatistics;
  let error: (values: Float32Array) => number;
  beforeAll(() => {
    // x̃ = x (I + A) with A = 0.3 G / √512, so its moments follow from those of x
    const a = gaussianMatrix(n, n, 77).map((v) => (0.3 * v) / Math.sqrt(n));
    const shifted = a.map((v, i) => v + (i % (n + 1) === 0 ? 1 : 0));
    const transposed = (m: Float32Array) => m.map((_, i) => m[(i % n) * n + Math.floor(i / n)]);
    const form = (left: Float32Array, m: Float32Array, right: Float32Array) =>
      product(transposed(left), product(m, right, n, n), n, n);
    const both = (m: Float32Array) => ({
      gram: form(shifted, m, shifted),
      cross: form(a, m, shifted).map((v) => -v),
      difference: form(a, m, a),
    });
    statistics = { tokens, features: n, ...both(gram) };
    const unseen = both(testGram);
    const reference = quadratic(testGram, weight);
    const fixed = quadratic(unseen.difference, weight);
    // ‖W X − Ŵ X̃‖² / ‖W X‖²
    error = (values) => {
      const forms = solver.errors(unseen.gram, unseen.cross, n);
      const d = weight.map((w, i) => w - values[i]);
      const result = (fixed + 2 * forms.cross(weight, d, n) + forms.quadratic(d, n)) / reference;
      forms.free();
      return result;
    };
  });

  test.each([
    ['int4-g128-asym', [0.094, 0.058, 0.034, 0.019]],
    ['int2-g128-asym', [0.143, 0.118, 0.112, 0.158]],
  ])('%s: α = 0, 0.25, 0.5, 1', async (format, targets) => {
    const errors: number[] = [];
    for (const asymmetry of [0, 0.25, 0.5, 1])
      errors.push(error(await solve(format, { asymmetry, staticGroups: false }, statistics)));
    errors.forEach((e, i) => {
      within(e, targets[i]);
    });
    const [none, quarter, half, whole] = errors;
    expect(quarter).toBeLessThan(none);
    expect(half).toBeLessThan(quarter);
    if (format === 'int4-g128-asym') expect(whole).toBeLessThan(half);
    else expect(whole).toBeGreaterThan(half);
  });
});
