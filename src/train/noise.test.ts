// The ratio of gradient to rounding noise: against its formula in float64 from two passes of gradients, and as what
// moves a run on to its next phase, over a stop too.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { tinyConfigs, tinyModel } from '../../test/fixtures/models/tiny-models.ts';
import { readBuffer } from '../backends/read-buffer.ts';
import { createWasmBackend, type WasmBackend } from '../backends/wasm/backend.ts';
import { parseConfig } from '../models/config.ts';
import { readLog } from '../track/run-log.ts';
import { type ConfigOverrides, createConfig } from './config/config.ts';
import { recipeFields } from './config/sections.ts';
import type { Products } from './graphs.ts';
import { buildGradientGraph, sumName } from './graphs.ts';
import { runTraining, type TrainOptions } from './loop.ts';
import { NoiseProbe } from './noise.ts';
import { prepareRun } from './prepare.ts';
import { noPhases, openPhases, type PhaseRecord } from './recipes/phases.ts';
import type { StepReport } from './report.ts';
import { loadTrainable } from './step.ts';

const tokenizer = fileURLToPath(new URL('../../models/qwen3-6m', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'subbyte-noise-'));
let wasm: WasmBackend;
beforeAll(async () => {
  wasm = await createWasmBackend({ threads: 2 });
});
afterAll(() => {
  expect(wasm.usedBytes).toBe(0);
  wasm.dispose();
  rmSync(folder, { recursive: true, force: true });
});

writeFileSync(
  join(folder, 'text.txt'),
  'the quick brown fox jumps over the lazy dog and runs away from it. '.repeat(200),
);
let runs = 0;
const configOf = (recipe: ConfigOverrides['recipe'], more: ConfigOverrides = {}) =>
  createConfig({
    steps: 10,
    model: { layers: 2, hiddenSize: 32, heads: 2, mlpSize: 64, tokenizer },
    data: { train: join(folder, 'text.txt'), cache: join(folder, 'tokens') },
    batch: { sequences: 2, tokens: 16, accumulate: 2 },
    schedule: { learningRate: 3e-3 },
    recipe,
    output: { folder: join(folder, `run-${runs++}`), saveEvery: 100, tensorboard: false },
    ...more,
  });

async function run(config: ReturnType<typeof configOf>, options: TrainOptions = {}) {
  const prepared = await prepareRun(config);
  try {
    return await runTraining(config, prepared, wasm, options);
  } finally {
    await prepared.close();
  }
}

const ids = (first: number) => Int32Array.from({ length: 32 }, (_, i) => ((first + i) * 37 + 5) % 2000);
const batchOf = (first: number) => ({ ids: ids(first), targets: ids(first + 1) });

describe('the ratio', () => {
  it('is ‖g‖ / ‖g_q − g‖ of the sums over the batches, for all layers and for the noisiest', async () => {
    const config = configOf({ use: 'fp4-all-the-way', layers: [{ match: 'layers\\.1\\.', use: 'bf16' }] });
    const prepared = await prepareRun(config);
    const model = await loadTrainable(prepared.weights, wasm);
    await prepared.close();
    const products = openPhases(model.config, { ...config, seed: 5 }).products(0)!;
    const shape = { batch: 2, tokens: 16 };
    const batches = [3, 4].map((index) => [batchOf(50 * index), index] as const);

    const probe = (await NoiseProbe.open(model, shape, products))!;
    const first = await probe.measure(batches);
    const again = await probe.measure(batches);
    expect(again).toEqual(first);
    expect(probe.byteLength).toBeGreaterThan(0);
    probe.dispose();

    const gradientsOf = async (chosen: Products) => {
      const graph = buildGradientGraph(model.config, model.types, { ...shape, products: chosen });
      const sums = new Map([...model.types].map(([name, type]) => [sumName(name), wasm.allocate(type)]));
      const pass = await wasm.compile(graph, { params: new Map(), states: new Map([...model.buffers, ...sums]) });
      for (const [{ ids, targets }, index] of batches) {
        pass.write('ids', ids);
        pass.write('targets', targets);
        for (const [name, data] of products.inputs(index)) if (graph.inputs.has(name)) pass.write(name, data);
        pass.run();
      }
      const found = new Map<string, Float64Array>();
      for (const [name, buffer] of sums)
        found.set(name.replace('/sum', ''), Float64Array.from((await readBuffer(wasm, name, buffer)).data));
      pass.dispose();
      for (const buffer of sums.values()) buffer.dispose();
      return found;
    };
    const rounded = await gradientsOf(products.products);
    const exact = await gradientsOf(products.exactBackward);
    const square = (v: Float64Array) => v.reduce((sum, x) => sum + x * x, 0);
    const parts = products.noisy.map((layer) => {
      const [q, g] = [rounded, exact].map((all) => all.get(`${layer}.weight`)!);
      return { layer, signal: square(g), noise: square(q.map((v, i) => v - g[i])) };
    });
    const total = (key: 'signal' | 'noise') => parts.reduce((sum, part) => sum + part[key], 0);
    expect(first.ratio / Math.sqrt(total('signal') / total('noise'))).toBeCloseTo(1, 5);
    const noisiest = parts.reduce((a, b) => (a.signal / a.noise < b.signal / b.noise ? a : b));
    expect(first.lowest.layer).toBe(noisiest.layer);
    expect(first.lowest.ratio / Math.sqrt(noisiest.signal / noisiest.noise)).toBeCloseTo(1, 5);
    // FP4 gradients of 14 layers, bf16 gradients of 14: the noise is that of FP4
    expect(products.noisy.length).toBe(14);
    expect(first.lowest.layer).toMatch(/layers\.0\./);
    expect(first.ratio).toBeGreaterThan(1);
    expect(first.ratio).toBeLessThan(30);
    model.dispose();
  });

  it('is not there where nothing rounds gradients', async () => {
    const config = configOf({ use: 'quest-exact', noiseEvery: 1 }, { steps: 1 });
    const reports: StepReport[] = [];
    await run(config, { onStep: (report) => reports.push(report) });
    expect(reports[0]).not.toHaveProperty('noiseRatio');
  });
});

describe('phases', () => {
  const open = (phases: unknown, steps = 100) => {
    const { recipe, batch } = configOf({ use: 'fp4-all-the-way', noiseEvery: 1, phases } as never);
    const [trait] = Object.keys(tinyConfigs);
    return openPhases(parseConfig(tinyModel(tinyConfigs[trait], 1).config), { recipe, batch, steps, seed: 0 });
  };
  const recordAfter = (phases: ReturnType<typeof open>, ratios: number[], first = 1) =>
    ratios.reduce<PhaseRecord>((record, ratio, i) => phases.measured(first + i, ratio, record), noPhases);

  it('begin after three ratios whose mean is below the bound', () => {
    const phases = open([{ noiseBelow: Math.sqrt(3), use: 'fp4-fine-tuning' }]);
    expect(phases.at(1000, recordAfter(phases, [1.8, 1.8, 1.8]))).toBe(0);
    expect(phases.at(1000, recordAfter(phases, [1, 1]))).toBe(0);
    const record = recordAfter(phases, [9, 1.9, 1.7, 1.5], 7);
    expect(record).toEqual({ ratios: [], begun: [{ phase: 1, step: 11 }] });
    expect([phases.at(10, record), phases.at(11, record)]).toEqual([0, 1]);
    // there is no further phase to begin
    expect(phases.measured(12, 0.1, record).begun.length).toBe(1);
  });

  it('begin at their share of the steps at the latest, and the schedule starts over where it is asked for', () => {
    const phases = open([
      { noiseBelow: 2, from: 0.5, restart: true, use: 'fp4-fine-tuning' },
      { from: 0.9, use: 'bf16' },
    ]);
    expect([50, 51, 90, 91].map((step) => phases.at(step, noPhases))).toEqual([0, 1, 1, 2]);
    expect([50, 51, 95].map((step) => phases.scheduleStart(step, noPhases))).toEqual([0, 50, 50]);
    const early = recordAfter(phases, [1, 1, 1], 18);
    expect([20, 21, 60, 91].map((step) => phases.at(step, early))).toEqual([0, 1, 1, 2]);
    expect([20, 21, 95].map((step) => phases.scheduleStart(step, early))).toEqual([0, 20, 20]);
    // a later phase is not begun by ratios that it does not ask for
    expect(phases.measured(95, 0.1, early).begun).toEqual(early.begun);
  });

  it('are fields that print, are refused without a beginning, and ask for the measurement', () => {
    const phases = [{ noiseBelow: 1.7, restart: true, use: 'fp4-fine-tuning' }] as const;
    expect(configOf({ use: 'quartet', noiseEvery: 5, phases }).recipe).toMatchObject({ noiseEvery: 5, phases });
    expect(() => configOf({ phases } as never)).toThrow(
      /recipe\.phases\[0\]\.noiseBelow waits for a ratio that is not measured; set recipe\.noiseEvery/,
    );
    expect(() => configOf({ phases: [{ use: 'bf16' }] })).toThrow(/recipe\.phases\[0\] says not when it begins/);
    expect(() => configOf({ phases: [{ noiseBelow: 0, use: 'bf16' }] })).toThrow(/phases\[0\]\.noiseBelow is wrong/);
    const late = [
      { from: 0.5, use: 'bf16' },
      { noiseBelow: 1, use: 'bf16' },
      { from: 0.4, use: 'f32' },
    ] as const;
    expect(() => configOf({ phases: late })).toThrow(/phases\[2\]\.from is wrong, got 0\.4/);
    expect(recipeFields.noiseEvery.fallback).toBeUndefined();
  });
});

it('a run switches when its ratios fall, says so, and goes on alike after a stop on either side of the switch', async () => {
  const phases = [{ noiseBelow: 1000, restart: true, use: 'fp4-fine-tuning' }] as const;
  const recipe = { use: 'fp4-all-the-way', noiseEvery: 2, phases } as const;
  const reports: StepReport[] = [];
  const begun: number[][] = [];
  const whole = configOf(recipe);
  const end = await run(whole, {
    onStep: (report) => reports.push(report),
    onPhase: (step, phase) => begun.push([step, phase]),
  });
  // ratios at 2, 4 and 6; bf16 gradients from step 7 on, whose noise is far smaller
  expect(begun).toEqual([[7, 1]]);
  const ratios = reports.map(({ noiseRatio }) => noiseRatio);
  expect(ratios.map((ratio) => ratio !== undefined)).toEqual([0, 1, 0, 1, 0, 1, 0, 1, 0, 1].map(Boolean));
  expect(ratios[7]!).toBeGreaterThan(20 * ratios[5]!);
  expect(reports[6].learningRate).not.toBe(reports[5].learningRate);
  const log = readLog(end.log);
  expect(log.filter(({ kind }) => kind === 'noise').map(({ step, ratio }) => [step, ratio])).toEqual(
    [2, 4, 6, 8, 10].map((step) => [step, ratios[step - 1]]),
  );
  expect(log.find(({ kind }) => kind === 'phase')).toMatchObject({ step: 7, phase: 1 });

  const model = (config: typeof whole) => readFileSync(join(config.output.folder!, 'model', 'model.safetensors'));
  const stopped = configOf(recipe);
  for (const stop of [5, 7]) {
    const abort = new AbortController();
    const onStep = ({ step }: StepReport) => step === stop && abort.abort();
    await expect(run(stopped, { signal: abort.signal, onStep })).rejects.toThrow();
  }
  await run(stopped);
  expect(model(stopped)).toEqual(model(whole));
});
