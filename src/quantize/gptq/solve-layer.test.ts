import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createSolver, type Solver } from '../../backends/wasm/solver.ts';
import { codesOf, gridOf } from '../../formats/grid.ts';
import { dequantize, quantize } from '../../formats/quantize.ts';
import { parseFormat } from '../../formats/registry.ts';
import { gaussianMatrix } from '../gaussian.ts';
import type { Fit } from './fit.ts';
import { type LayerStatistics, prepareHessian } from './hessian.ts';
import { defaultGptqOptions, type GptqOptions } from './options.ts';
import { activationOrder, groupOrder } from './order.ts';
import { factorReference, solveReference } from './reference.ts';
import { type SolvedLayer, solveLayer } from './solve-layer.ts';
import { correlatedInputs, moments, outputError } from './testing.ts';

let solver: Solver;
beforeAll(async () => {
  solver = await createSolver({ threads: 2 });
});
afterAll(() => solver.dispose());

const fit: Fit = async (values, rows, cols, format) => quantize(values, rows, cols, format);
const [rows, cols] = [10, 512];
const weight = gaussianMatrix(rows, cols, 5).map((v, i) => (i % 29 === 0 ? 4 * v : v) * 0.02);
const x = correlatedInputs(600, cols, 3);
const statistics: LayerStatistics = { tokens: 600, features: cols, gram: moments(x, x, cols) };

async function solve(
  format: string,
  options: Partial<GptqOptions> = {},
  from = statistics,
  w: Float32Array = weight,
  rowBytes?: number,
): Promise<SolvedLayer> {
  const prepared = prepareHessian(from, { ...defaultGptqOptions, ...options }, solver, 'up_proj');
  const count = w.length / from.features;
  return solveLayer(prepared, w, count, from.features, parseFormat(format), { solver, fit, rowBytes }, 'up_proj');
}

const minus = (a: Float32Array, b: Float32Array) => a.map((v, i) => v - b[i]!);
const variants: [string, Partial<GptqOptions>][] = [
  ['natural', {}],
  ['natural, groups on the way', { staticGroups: false }],
  ['activation', { order: 'activation' }],
  ['group', { order: 'group' }],
  ['group, groups on the way', { order: 'group', staticGroups: false }],
];

describe('error on calibration data', () => {
  const formats = [
    'int4-g128-asym',
    'int3-g32-asymf',
    'int4-channel',
    'int4-tensor',
    'int4-tile2x32',
    'mxfp4-mse',
    'nvfp4-mse',
    'mxfp4-fourthirds',
    'nvfp4',
    'nvfp4-46',
    'nvfp4-ct',
    'fp8-e4m3-channel',
    'nf4-g64',
    'ternary-channel',
    'q4_0',
    'q4_k',
    'q2_k',
    'q3_k',
    'q5_k',
    'q6_k',
    'iq4_xs',
    'ggml-nvfp4',
    'tq2_0',
  ];

  test.each(formats)(
    '%s: smaller than of plain rounding, and reported as an independent sum finds it',
    async (name) => {
      const plain = outputError(minus(weight, dequantize(quantize(weight, rows, cols, parseFormat(name)))), x, cols);
      for (const [variant, options] of variants) {
        const layer = await solve(name, options);
        const explicit = outputError(minus(weight, dequantize(layer.quantized)), x, cols);
        expect(layer.error / explicit, variant).toBeCloseTo(1, 3);
        expect(layer.rtnError / plain, variant).toBeCloseTo(1, 3);
        expect(explicit, variant).toBeLessThan(plain);
        expect(layer.fallback, variant).toBeUndefined();
        expect(layer.damping, variant).toBe(0.01);
        expect(layer.note, variant).toBeUndefined();
      }
    },
  );

  test('the activation order beats the natural one, and static groups keep the scales of plain rounding', async () => {
    const natural = await solve('int4-g128-asym');
    const activation = await solve('int4-g128-asym', { order: 'activation' });
    expect(activation.error).toBeLessThan(natural.error);
    const plain = quantize(weight, rows, cols, parseFormat('int4-g128-asym'));
    for (const { quantized } of [natural, activation]) {
      expect(quantized.scales).toEqual(plain.scales);
      expect(quantized.zeroPoints).toEqual(plain.zeroPoints);
    }
  });
});

test.each(['int4-g32', 'nvfp4', 'q4_k', 'int8-channel'])(
  '%s: rows solved in turn and threads change nothing',
  async (name) => {
    const single = await createSolver({ threads: 1 });
    for (const [, options] of variants) {
      const all = await solve(name, options);
      expect((await solve(name, options, statistics, weight, 1)).quantized).toEqual(all.quantized);
      const prepared = prepareHessian(statistics, { ...defaultGptqOptions, ...options }, single, 'w');
      const tools = { solver: single, fit };
      expect(await solveLayer(prepared, weight, rows, cols, parseFormat(name), tools, 'w')).toEqual(all);
    }
    single.dispose();
  },
);

test.each(['int4-g32-asym', 'nvfp4', 'q4_k', 'mxfp4'])(
  '%s: groups fitted on the way fit the weights as they are then, codes are the nearest ones',
  async (name) => {
    const format = parseFormat(name);
    for (const order of ['natural', 'group'] as const) {
      const { quantized } = await solve(name, { order, staticGroups: false });
      const grid = gridOf(quantized);
      const { span, run } = grid;
      const diagonal = Float32Array.from({ length: cols }, (_, i) => statistics.gram[i * cols + i]!);
      const places = order === 'group' ? groupOrder(diagonal, span) : Uint32Array.from(diagonal.keys());
      const upper = factorReference(statistics.gram, cols, 0.01, places) as Float64Array;
      const permute = <T extends Float32Array | Uint8Array>(v: T): T =>
        v.map((_, i) => v[Math.floor(i / cols) * cols + places[i % cols]!]!) as T;
      const codes = permute(codesOf(quantized));
      const runOf = (i: number) => Math.floor(places[i]! / run);
      const { excess } = solveReference(permute(weight), grid, runOf, upper, undefined, 128, codes);
      expect(Math.max(...excess)).toBeLessThan(1e-4);

      // W − Ŵ = E U gives the errors, and they the weights at the start of each group
      const d = permute(minus(weight, dequantize(quantized)));
      const plain = quantize(weight, rows, cols, format);
      expect(quantized.tensorScale).toBe(plain.tensorScale);
      let equal = 0;
      let total = 0;
      for (let r = 0; r < rows; r++) {
        const e = new Float64Array(cols);
        const w = Float64Array.from(permute(weight).subarray(r * cols, (r + 1) * cols));
        for (let i = 0; i < cols; i++) {
          if (i % span === 0) {
            const first = Math.floor(places[i]! / span) * span;
            const values = new Float32Array(2 * span);
            for (let k = 0; k < span; k++) values[places[i + k]! - first] = w[i + k]!;
            values[span] = weight.reduce((a, v) => Math.max(a, Math.abs(v)), 0);
            const expected = gridOf(quantize(values, 2, span, format));
            const runs = span / run;
            for (let k = 0; k < runs; k++, total++) {
              const at = (r * cols + first) / run + k;
              const same = grid.steps[at] === expected.steps[k] && grid.offsets?.[at] === expected.offsets?.[k];
              if (same) equal++;
            }
          }
          let sum = d[r * cols + i]!;
          for (let k = 0; k < i; k++) sum -= e[k]! * upper[k * cols + i]!;
          e[i] = sum / upper[i * cols + i]!;
          for (let j = i; j < cols; j++) w[j]! -= e[i]! * upper[i * cols + j]!;
        }
      }
      // float32 against float64 decides differently only where a scale is about to round
      expect(equal / total).toBeGreaterThan(0.97);
    }
  },
);

test('layers with the same input share one factor; the group order has one for every group size', async () => {
  let count = 0;
  const counting: Solver = {
    ...solver,
    factor: (request) => {
      count++;
      return solver.factor(request);
    },
  };
  const tools = { solver: counting, fit };
  const shared = prepareHessian(statistics, defaultGptqOptions, counting, 'q');
  for (const format of ['int4-g32', 'int4-g128', 'nvfp4'])
    await solveLayer(shared, weight, rows, cols, parseFormat(format), tools, 'q');
  expect(count).toBe(1);
  const grouped = prepareHessian(statistics, { ...defaultGptqOptions, order: 'group' }, counting, 'q');
  for (const format of ['int4-g32', 'mxfp4', 'int4-g128', 'int4-channel', 'int8-channel'])
    await solveLayer(grouped, weight, rows, cols, parseFormat(format), tools, 'q');
  expect(count).toBe(4);
});

test('orders', () => {
  const diagonal = Float32Array.of(1, 5, 5, 2, 9, 0, 3, 3);
  expect([...activationOrder(diagonal)]).toEqual([4, 1, 2, 6, 7, 3, 0, 5]);
  expect([...groupOrder(diagonal, 4)]).toEqual([4, 6, 7, 5, 1, 2, 3, 0]);
});

describe('what can go wrong', () => {
  const small = (change: (gram: Float32Array) => void = () => {}): LayerStatistics => {
    const inputs = correlatedInputs(200, 64, 8);
    const gram = moments(inputs, inputs, 64);
    change(gram);
    return { tokens: 200, features: 64, gram };
  };
  const w = weight.subarray(0, 5 * 64);

  test('inputs that never occurred get weight zero and disturb nothing', async () => {
    const live = correlatedInputs(200, 64, 8).map((v, i) => (i % 64 === 3 || i % 64 === 40 ? 0 : v));
    const gram = moments(live, live, 64);
    for (const [variant, options] of variants) {
      const layer = await solve('int4-g32', options, { tokens: 200, features: 64, gram }, w);
      const values = dequantize(layer.quantized);
      expect(values.every(Number.isFinite), variant).toBe(true);
      values.forEach((v, i) => {
        if (i % 64 === 3 || i % 64 === 40) expect(v).toBeCloseTo(0, 10);
      });
      expect(layer.error, variant).toBeLessThan(layer.rtnError);
      expect(layer.error / outputError(minus(w, values), live, 64), variant).toBeCloseTo(1, 3);
    }
  });

  test('no tokens: plain rounding, with the reason', async () => {
    const empty = { tokens: 0, features: 64, gram: new Float32Array(64 * 64) };
    const layer = await solve('int4-g32', {}, empty, w);
    expect(layer.fallback).toBe('no calibration token reached up_proj: it is rounded plainly');
    expect(layer.quantized).toEqual(quantize(w, 5, 64, parseFormat('int4-g32')));
    expect([layer.error, layer.rtnError, layer.damping]).toEqual([0, 0, 0]);
  });

  test('a Hessian that is not positive definite: more damping, and plain rounding when none suffices', async () => {
    const bent = small((gram) => {
      // one feature less than its correlation allows
      const mean = Array.from({ length: 64 }, (_, i) => gram[i * 65]!).reduce((a, b) => a + b) / 64;
      gram[7 * 65]! -= gram[7 * 65]! + 0.033 * mean;
      for (let j = 0; j < 64; j++) if (j !== 7) gram[Math.min(j, 7) * 64 + Math.max(j, 7)] = 0;
    });
    const layer = await solve('int4-g32', {}, bent, w);
    expect(layer.damping).toBe(0.04);
    expect(layer.note).toBe('the Hessian of up_proj is not positive definite with a damping of 0.01: 0.04 was used');
    const broken = small((gram) => {
      gram[1] = 1e6;
    });
    const plain = await solve('int4-g32', {}, broken, w);
    expect(plain.fallback).toContain('not positive definite with any damping below 1');
    expect(plain.quantized).toEqual(quantize(w, 5, 64, parseFormat('int4-g32')));
  });

  test('a result that is worse than plain rounding is not kept', async () => {
    // weights on the grid: plain rounding is exact
    const exact = dequantize(quantize(w, 5, 64, parseFormat('int4-g32')));
    const layer = await solve('int4-g32', {}, small(), exact);
    expect(layer.error).toBe(0);
    const prepared = prepareHessian(small(), defaultGptqOptions, solver, 'up_proj');
    const stuck: Solver = {
      ...solver,
      columns: (request) => ({ ...solver.columns(request), codes: () => new Uint8Array(5 * 64).fill(7) }),
    };
    const tools = { solver: stuck, fit };
    const worse = await solveLayer(prepared, w, 5, 64, parseFormat('int4-g32'), tools, 'up_proj');
    expect(worse.fallback).toBe('gptq leaves up_proj with a larger error than plain rounding: it is rounded plainly');
    expect(worse.quantized).toEqual(quantize(w, 5, 64, parseFormat('int4-g32')));
    expect(worse.error).toBe(worse.rtnError);
  });

  test('NaN in statistics or weights is an error that names the layer', async () => {
    const nan = small((gram) => {
      gram[2 * 64 + 9] = Number.NaN;
    });
    expect(() => prepareHessian(nan, defaultGptqOptions, solver, 'layers.3.up_proj')).toThrow(
      'gptq: the moment of input features 2 and 9 is not finite, got NaN, expected finite numbers (tensor layers.3.up_proj)',
    );
    const bad = w.slice();
    bad[70] = Infinity;
    await expect(solve('int4-g32', {}, small(), bad)).rejects.toThrow(
      'the value at row 1, column 6 is not finite, got Infinity, expected finite numbers (tensor up_proj)',
    );
  });

  test('formats without a grid and options that contradict each other are refused', async () => {
    await expect(solve('if4')).rejects.toThrow('gptq: codes can be chosen only where');
    await expect(solve('int4-g128', { order: 'activation', staticGroups: false })).rejects.toThrow('set staticGroups');
    await expect(solve('int4-g128', { damping: 1 })).rejects.toThrow('the damping is out of range, got 1');
    await expect(solve('int4-g128', { blockSize: 0 })).rejects.toThrow('bad block size');
    await expect(solve('int4-g128', { asymmetry: 0.5 })).rejects.toThrow('calibrate with both streams');
  });

  test('zero weights, zero groups and a single row', async () => {
    const sparse = w.map((v, i) => (i < 64 || i % 64 < 32 ? 0 : v));
    for (const name of ['int4-g32', 'int4-g32-asym', 'mxfp4', 'nvfp4', 'q4_0', 'fp8-e4m3-channel']) {
      const layer = await solve(name, { staticGroups: false }, small(), sparse);
      expect(dequantize(layer.quantized).every(Number.isFinite)).toBe(true);
      expect(layer.error).toBeLessThanOrEqual(layer.rtnError);
      const one = await solve(name, {}, small(), w.subarray(0, 64));
      expect(one.error).toBeLessThanOrEqual(one.rtnError);
    }
  });

  test('the block size changes last bits only', async () => {
    const errors = await Promise.all([16, 96, 128, 4096].map((blockSize) => solve('int4-g32', { blockSize })));
    for (const { error } of errors) expect(error / errors[0]!.error).toBeCloseTo(1, 2);
  });
});
