// Runs that go wrong: a loss that is not finite, a loss that jumps.

import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createWasmBackend, type WasmBackend } from '../backends/wasm/backend.ts';
import { readLog } from '../track/run-log.ts';
import { type ConfigOverrides, createConfig } from './config/config.ts';
import { findFirstBad } from './diagnose.ts';
import { runTraining, type TrainOptions } from './loop.ts';
import { prepareRun } from './prepare.ts';
import { findSpike } from './spikes.ts';
import { loadTrainable } from './step.ts';

const tokenizer = fileURLToPath(new URL('../../models/qwen3-6m', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'subbyte-loop-'));
let wasm: WasmBackend;
beforeAll(async () => {
  wasm = await createWasmBackend({ threads: 2 });
});
afterAll(() => {
  expect(wasm.usedBytes).toBe(0);
  wasm.dispose();
  rmSync(folder, { recursive: true, force: true });
});

let runs = 0;
function configOf(text: string, more: ConfigOverrides = {}) {
  const name = join(folder, `${runs++}`);
  writeFileSync(`${name}.txt`, text);
  return createConfig({
    ...more,
    model: { layers: 2, hiddenSize: 32, heads: 2, mlpSize: 64, tokenizer },
    data: { train: `${name}.txt`, cache: join(folder, 'tokens'), shuffle: false },
    batch: { sequences: 2, tokens: 16 },
    output: { folder: name, saveEvery: 4, tensorboard: false },
  });
}

async function run(config: ReturnType<typeof configOf>, options: TrainOptions = {}) {
  const prepared = await prepareRun(config);
  try {
    return await runTraining(config, prepared, wasm, options);
  } finally {
    await prepared.close();
  }
}
const words = 'the quick brown fox jumps over the lazy dog and runs away from it. ';

it('a loss that is not finite ends the run: first bad value, last good checkpoint, weights as they were', async () => {
  // decay of a million times the weight: they grow by 10⁶ a step
  const schedule = { kind: 'constant', learningRate: 1000, warmup: 0 } as const;
  const optimizer = { kind: 'sgd', weightDecay: 1000, clipNorm: 1e-9 } as const;
  const config = configOf(words.repeat(200), { steps: 40, schedule, optimizer });
  const steps: number[] = [];
  const error = await run(config, { onStep: ({ step }) => steps.push(step) }).catch((e) => e);
  expect(error.message).toMatch(
    /^train: the (loss|gradient norm) is (NaN|Infinity) at step \d+, the first value that is not finite is .*#\d+.*, and (there is no checkpoint yet|the last good checkpoint is .*step-0000\d+); lower schedule\.learningRate/,
  );
  expect(error.exitCode).toBe(2);
  const log = readLog(join(config.output.folder!, 'log.jsonl'));
  expect(log.at(-1)).toMatchObject({ kind: 'broken', step: steps.length + 1 });
});

it('names the weight or the value that is first not finite', async () => {
  const config = configOf(words.repeat(20));
  const prepared = await prepareRun(config);
  const { weights } = prepared;
  await prepared.close();
  const ids = Int32Array.from({ length: 32 }, (_, i) => 5 * i);
  const batch = { ids, targets: ids.map((id) => id + 1) };
  const find = async (name: string, change: (values: Float32Array) => void) => {
    const model = await loadTrainable(
      {
        ...weights,
        load: async (n) => {
          const tensor = await weights.load(n);
          if (n === name && tensor.kind === 'dense') change(tensor.data as Float32Array);
          return tensor;
        },
      },
      wasm,
    );
    const found = await findFirstBad(model, { batch: 2, tokens: 16 }, batch);
    model.dispose();
    return found;
  };
  expect(await find('model.norm.weight', () => {})).toBeUndefined();
  expect(await find('model.layers.1.mlp.up_proj.weight', (v) => v.fill(Number.NaN, 7, 8))).toBe(
    'the weight model.layers.1.mlp.up_proj.weight',
  );
  // finite weights, but a product beyond 3.4e38 in the first layer's MLP
  expect(await find('model.layers.0.mlp.gate_proj.weight', (v) => v.fill(3e38))).toMatch(/^layers\.0\.mlp\/matmul#/);
});

describe('spikes', () => {
  it('are losses far above the median of those before', () => {
    const flat = Array.from({ length: 40 }, (_, i) => 3 + 0.05 * Math.sin(i));
    expect(findSpike(flat, 3.4)).toBeUndefined();
    expect(findSpike(flat, 4)).toEqual({ loss: 4, median: expect.closeTo(3, 1) });
    expect(findSpike(flat.slice(0, 15), 40)).toBeUndefined();
    const noisy = Array.from({ length: 64 }, (_, i) => 3 + Math.sin(i));
    expect(findSpike(noisy, 5)).toBeUndefined();
    expect(findSpike(noisy, 30)?.loss).toBe(30);
    // losses of long ago do not count
    expect(findSpike([...Array(100).fill(9), ...Array(64).fill(1)], 3)).toEqual({ loss: 3, median: 1 });
  });

  it('of a run are reported with the tensor that has most of the gradient', async () => {
    const strange = Array.from({ length: 400 }, (_, i) => String.fromCodePoint(0x4e00 + 7 * i)).join('');
    const config = configOf(`${words.repeat(75)}${strange}`, { steps: 90, schedule: { learningRate: 1e-2 } });
    const warnings: string[] = [];
    await run(config, { onWarning: (text) => warnings.push(text) });
    expect(warnings[0]).toMatch(
      /^the loss jumped to \d+\.\d+ at step \d+, from a median of \d\.\d+; (model|lm_head)\.\S+ has \d+ % of the squared gradient; the last good checkpoint is .*step-000000\d+$/,
    );
    const log = readLog(join(config.output.folder!, 'log.jsonl'));
    expect(log.filter((e) => e.kind === 'spike').length).toBe(warnings.length);
    expect(readdirSync(config.output.folder!)).toContain('model');
  });
});
