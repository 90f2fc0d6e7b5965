// Steps in parts (gradients of batches, norm, update) against the whole step of step.ts, on tiny decoders.

import { afterAll, beforeAll, expect, it } from 'vitest';
import { tinyWeights } from '../../test/fixtures/models/memory-source.ts';
import { tinyConfigs, tinyModel } from '../../test/fixtures/models/tiny-models.ts';
import { createWasmBackend, type WasmBackend } from '../backends/wasm/backend.ts';
import type { LoadedDecoder } from '../models/loaded.ts';
import type { Batch } from './data/batches.ts';
import { buildTrainingStep, loadTrainable, readWeights } from './step.ts';
import { Trainer, type TrainerOptions } from './trainer.ts';

const [B, T] = [2, 8];
const small = { hidden_size: 32, intermediate_size: 64, vocab_size: 40 };
const traits = Object.keys(tinyConfigs);
const base: TrainerOptions = {
  sequences: B,
  tokens: T,
  accumulate: 1,
  recompute: false,
  optimizer: { kind: 'adamw', beta2: 0.95, weightDecay: 0.1 },
  decays: (name) => !/norm|bias/.test(name),
};

const batchOf = (first: number, rows = B): Batch => {
  const ids = Int32Array.from({ length: rows * T }, (_, i) => ((first * B * T + i) * 17 + 3) % 40);
  return { ids, targets: ids.map((id) => (id * 3 + 1) % 40) };
};

let wasm: WasmBackend;
beforeAll(async () => {
  wasm = await createWasmBackend({ threads: 2 });
});
afterAll(() => {
  expect(wasm.usedBytes).toBe(0);
  wasm.dispose();
});

const load = async (trait = traits[0]) =>
  loadTrainable(await tinyWeights(tinyModel({ ...tinyConfigs[trait], ...small }, 3)), wasm);

async function weightsOf(model: LoadedDecoder): Promise<Map<string, Float32Array>> {
  const all = new Map<string, Float32Array>();
  for await (const [name, { data }] of readWeights(model)) all.set(name, Float32Array.from(data));
  return all;
}

async function steps(trainer: Trainer, count: number, batches: (step: number) => Batch[], rate = 3e-3) {
  const losses: number[] = [];
  const norms: number[] = [];
  for (let step = 1; step <= count; step++) {
    const found = await trainer.step(step, batches(step), rate);
    const { norm } = found;
    losses.push(found.losses.reduce((sum, loss) => sum + loss / found.losses.length, 0));
    norms.push(norm);
  }
  return { losses, norms, weights: await weightsOf(trainer.model) };
}

async function whole(trait: string, count: number, rows: number, clipNorm?: number) {
  const model = await load(trait);
  const { optimizer } = base;
  const graph = buildTrainingStep(model.config, model.types, { batch: rows, tokens: T, optimizer, clipNorm });
  const step = await wasm.compile(graph, { params: new Map(), states: model.buffers });
  const losses: number[] = [];
  for (let i = 1; i <= count; i++) {
    const parts = Array.from({ length: rows / B }, (_, k) => batchOf(i * (rows / B) + k));
    for (const input of ['ids', 'targets'] as const)
      step.write(input, Int32Array.from(parts.flatMap((part) => [...part[input]])));
    step.write('learningRate', Float32Array.of(3e-3));
    step.write('step', Int32Array.of(i));
    step.run();
    losses.push((await step.read('loss')).data[0]);
  }
  const weights = await weightsOf(model);
  step.dispose();
  model.dispose();
  return { losses, weights };
}

it.each([traits[0], 'mixtral, 4 experts, 2 a token', 'qwen3, q/k norm, head_dim 24, tied'])(
  'gives the bits of the whole step: %s',
  async (trait) => {
    const trainer = await Trainer.open(await load(trait), base);
    const found = await steps(trainer, 4, (step) => [batchOf(step)]);
    expect(trainer.byteLength).toBe(wasm.usedBytes);
    trainer.dispose();
    const expected = await whole(trait, 4, B);
    expect(found.losses).toEqual(expected.losses);
    expect(found.weights).toEqual(expected.weights);
  },
);

it('clips by the norm of the mean gradient', async () => {
  const trainer = await Trainer.open(await load(), { ...base, clipNorm: 0.25 });
  const found = await steps(trainer, 3, (step) => [batchOf(step)]);
  trainer.dispose();
  expect(Math.min(...found.norms)).toBeGreaterThan(0.5);
  const expected = await whole(traits[0], 3, B, 0.25);
  for (const [i, loss] of expected.losses.entries()) expect(Math.abs(found.losses[i] / loss - 1)).toBeLessThan(1e-6);
  for (const [name, values] of expected.weights)
    for (const [i, w] of values.entries()) expect(Math.abs(w - found.weights.get(name)![i])).toBeLessThan(2e-5);
});

it('adds up batches: three of B are one of 3B', async () => {
  const trainer = await Trainer.open(await load(), { ...base, accumulate: 3 });
  const found = await steps(trainer, 3, (step) => [0, 1, 2].map((k) => batchOf(step * 3 + k)));
  trainer.dispose();
  const expected = await whole(traits[0], 3, 3 * B);
  for (const [i, loss] of expected.losses.entries()) expect(Math.abs(found.losses[i] / loss - 1)).toBeLessThan(1e-5);
  for (const [name, values] of expected.weights) {
    const apart = values.filter((w, i) => Math.abs(w - found.weights.get(name)![i]) > 1e-4).length;
    // where a gradient is nothing but rounding, the first step of adamw may go either way
    expect(apart / values.length, name).toBeLessThan(0.01);
  }
});

it.each([1, 2])('gives the squares of each weight, and clears sums: batches a step %i', async (accumulate) => {
  const model = await load();
  const trainer = await Trainer.open(model, { ...base, accumulate });
  const parts = [batchOf(1), batchOf(2)].slice(0, accumulate);
  const { norm, squares } = await trainer.step(1, parts, 1e-3);
  expect(squares).toHaveLength(model.types.size);
  expect(Math.sqrt(squares.reduce((a, b) => a + b)) / accumulate).toBeCloseTo(norm, 5);
  if (accumulate > 1) {
    const sums = await trainer.readState('model.norm.weight/sum');
    expect(sums.data.every((s) => s === 0)).toBe(true);
  }
  expect([...trainer.savedTypes().keys()]).toHaveLength(3 * model.types.size);
  trainer.dispose();
});

it.each([1, 2])('a step whose loss is not finite changes nothing: batches a step %i', async (accumulate) => {
  const trainer = await Trainer.open(await load(), { ...base, accumulate });
  const parts = [batchOf(1), batchOf(2)].slice(0, accumulate);
  // weights of the order of 10³⁷: no product is finite
  await trainer.step(1, parts, 1e37);
  const states = async () => {
    const all: [string, ArrayLike<number>][] = [];
    for (const name of trainer.savedTypes().keys()) all.push([name, (await trainer.readState(name)).data]);
    return all;
  };
  const before = await states();
  const { losses, norm } = await trainer.step(2, parts, 1e-3);
  expect(losses.every(Number.isFinite)).toBe(false);
  expect(norm).toBeNaN();
  expect(await states()).toEqual(before);
  trainer.dispose();
});

it('keeps weights in bf16, rounded so that small updates are not lost', async () => {
  const trainer = await Trainer.open(await load(), { ...base, optimizer: { kind: 'sgd' }, bf16Seed: 5 });
  const before = await weightsOf(trainer.model);
  // nine of ten updates are less than half the spacing: rounding to nearest would undo them
  const found = await steps(trainer, 60, () => [batchOf(1)], 1e-3);
  const exact = await Trainer.open(await load(), { ...base, optimizer: { kind: 'sgd' } });
  const expected = await steps(exact, 60, () => [batchOf(1)], 1e-3);
  let [along, squared, undone] = [0, 0, 0];
  for (const [name, values] of found.weights) {
    const [from, to] = [before.get(name)!, expected.weights.get(name)!];
    for (const [i, w] of values.entries()) {
      expect(new Uint32Array(Float32Array.of(w).buffer)[0] & 0xffff).toBe(0);
      along += (w - from[i]) * (to[i] - from[i]);
      squared += (to[i] - from[i]) ** 2;
      // one step is less than half the spacing of bf16, 2^-8 of the binade
      undone += Math.abs(to[i] - from[i]) / 60 < 2 ** (Math.floor(Math.log2(Math.abs(from[i]))) - 8) ? 1 : 0;
    }
  }
  const count = [...found.weights.values()].reduce((n, { length }) => n + length, 0);
  expect(undone / count).toBeGreaterThan(0.9);
  // the rounding noise has no bias: along the true movement the movement is whole
  expect(Math.abs(along / squared - 1)).toBeLessThan(0.05);
  trainer.dispose();
  exact.dispose();
});

it('evaluates what it trains', async () => {
  const trainer = await Trainer.open(await load(), base);
  const batch = batchOf(1);
  const half = { ...batch, targets: batch.targets.map((t, i) => (i < T ? t : -1)) };
  const { nll, tokens } = await trainer.evaluate([batch]);
  expect(tokens).toBe(B * T);
  expect((await trainer.evaluate([batch, half])).tokens).toBe(B * T + T);
  expect(nll).toBeCloseTo((await trainer.step(1, [batch], 1e-3)).losses[0], 5);
  trainer.dispose();
});

it.each([{ kind: 'sgd' }, { kind: 'sgd', momentum: 0.9 }] as const)('takes other optimizers: %o', async (optimizer) => {
  const trainer = await Trainer.open(await load(), { ...base, optimizer });
  const { losses } = await steps(trainer, 4, () => [batchOf(1)], 0.05);
  for (const [i, loss] of losses.slice(1).entries()) expect(loss).toBeLessThan(losses[i]);
  expect(trainer.savedTypes().size).toBe(('momentum' in optimizer ? 2 : 1) * trainer.model.types.size);
  trainer.dispose();
});
