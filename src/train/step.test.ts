// Training steps of tiny decoders: what the loss is, that all weights follow it, on both backends, in the memory that
// was planned.

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { tinyWeights } from '../../test/fixtures/models/memory-source.ts';
import { tinyConfigs, tinyModel } from '../../test/fixtures/models/tiny-models.ts';
import type { Backend, Executable } from '../backends/backend.ts';
import { gaussian } from '../backends/op-case.ts';
import { createReferenceBackend } from '../backends/reference/reference-backend.ts';
import { createWasmBackend, type WasmBackend } from '../backends/wasm/backend.ts';
import { dequantize as decode, quantize as encode } from '../formats/quantize.ts';
import { parseFormat } from '../formats/registry.ts';
import { straightThrough, withGradient } from '../graph/gradient-rules.ts';
import { dequantize, quantize } from '../graph/ops/quantize.ts';
import { dge } from '../graph/rounding-rules.ts';
import { buildDecoder } from '../models/decoder.ts';
import type { LoadedDecoder } from '../models/loaded.ts';
import { qtensor } from '../tensor/tensor.ts';
import { buildTrainingStep, loadTrainable, readWeights, type TrainingStepOptions } from './step.ts';

const [B, T] = [3, 7];
const small = { hidden_size: 32, intermediate_size: 64, vocab_size: 40 };
const ids = Int32Array.from({ length: B * T }, (_, i) => (i * 17 + 3) % 40);
const targets = ids.map((_, i) => (i % T >= T - 2 ? -1 : ids[i + 1]));
const defaults: TrainingStepOptions = { batch: B, tokens: T, optimizer: { kind: 'adamw' } };
const traits = Object.keys(tinyConfigs);

const load = async (trait: string, backend: Backend) =>
  loadTrainable(await tinyWeights(tinyModel({ ...tinyConfigs[trait], ...small }, 3)), backend);

async function compile(model: LoadedDecoder, options: Partial<TrainingStepOptions> = {}): Promise<Executable> {
  const graph = buildTrainingStep(model.config, model.types, { ...defaults, ...options });
  return model.backend.compile(graph, { params: new Map(), states: model.buffers });
}

/** Runs steps first … first + count − 1 on one batch; the losses. */
async function run(executable: Executable, count: number, first = 1, rate = 3e-3): Promise<number[]> {
  executable.write('ids', ids);
  executable.write('targets', targets);
  executable.write('learningRate', Float32Array.of(rate));
  const losses: number[] = [];
  for (let step = first; step < first + count; step++) {
    executable.write('step', Int32Array.of(step));
    await executable.run();
    losses.push((await executable.read('loss')).data[0]);
  }
  return losses;
}

async function weightsOf(model: LoadedDecoder): Promise<Map<string, Float32Array>> {
  const all = new Map<string, Float32Array>();
  for await (const [name, { data }] of readWeights(model)) all.set(name, Float32Array.from(data));
  return all;
}

let wasm: WasmBackend;
beforeAll(async () => {
  wasm = await createWasmBackend({ threads: 2 });
});
afterAll(() => {
  expect(wasm.usedBytes).toBe(0);
  wasm.dispose();
});

describe('every trait of the families', () => {
  it.each(traits)('%s: both backends take the same steps', async (trait) => {
    const [found, expected] = [await load(trait, wasm), await load(trait, createReferenceBackend())];
    const before = await weightsOf(expected);
    const [step, reference] = [await compile(found, { clipNorm: 0.5 }), await compile(expected, { clipNorm: 0.5 })];
    const [losses, exact] = [await run(step, 3), await run(reference, 3)];
    for (const [i, loss] of exact.entries()) expect(Math.abs(losses[i] / loss - 1)).toBeLessThan(2e-5);
    expect(exact[2]).toBeLessThan(exact[0] - 0.05);
    const after = await weightsOf(expected);
    for (const [name, values] of await weightsOf(found)) {
      // A first step of AdamW is the learning rate times the sign of the gradient: where that gradient is nothing but
      // rounding, the backends may go opposite ways.
      const apart = values.filter((w, i) => Math.abs(w - after.get(name)![i]) > 1e-4).length;
      expect(apart / values.length, name).toBeLessThan(0.01);
      expect(values, name).not.toEqual(before.get(name));
    }
    step.dispose();
    found.dispose();
  });
});

describe('a step', () => {
  it('has the mean over the targets that count as its loss', async () => {
    const model = await load(traits[0], wasm);
    const graph = buildDecoder(model.config, model.types, { batch: B, tokens: T, mode: 'nll' });
    const forward = await wasm.compile(graph, { params: model.buffers });
    const nll = async () => {
      forward.write('ids', ids);
      forward.write('targets', targets);
      forward.run();
      return Float32Array.from((await forward.read('nll')).data).reduce((a, b) => a + b) / (B * (T - 2));
    };
    const before = await nll();
    const step = await compile(model);
    expect((await run(step, 1))[0]).toBeCloseTo(before, 5);
    // The evaluation's parameters are the states that were trained.
    const after = await nll();
    expect(after).toBeLessThan(before - 0.02);
    expect((await run(step, 1, 2))[0]).toBeCloseTo(after, 5);
    for (const item of [step, forward, model]) item.dispose();
  });

  it('changes nothing but by decay where no target counts', async () => {
    const model = await load(traits[0], wasm);
    const before = await weightsOf(model);
    const step = await compile(model, { optimizer: { kind: 'sgd', weightDecay: 0.5 } });
    step.write('ids', ids);
    step.write(
      'targets',
      targets.map(() => -1),
    );
    step.write('learningRate', Float32Array.of(0.5));
    step.run();
    expect((await step.read('loss')).data[0]).toBe(0);
    for (const [name, values] of await weightsOf(model)) {
      const factor = model.types.get(name)!.shape.length < 2 ? 1 : 0.75;
      expect(values, name).toEqual(before.get(name)!.map((w) => w * factor));
    }
    step.dispose();
    model.dispose();
  });

  it.each([false, true])('takes the bytes that were planned, recomputed blocks: %s', async (recompute) => {
    const model = await load(traits[0], wasm);
    const step = await compile(model, { recompute, clipNorm: 1 });
    expect(step.plan.peakBytes).toBe(wasm.usedBytes);
    await run(step, 2);
    expect(step.plan.peakBytes).toBe(wasm.usedBytes);
    const weights = [...model.buffers.values()].reduce((n, { byteLength }) => n + byteLength, 0);
    expect(step.plan.stateBytes).toBe(3 * weights);
    step.dispose();
    model.dispose();
  });

  it.each(['mixtral, 4 experts, 2 a token', 'qwen3, q/k norm, head_dim 24, tied'])(
    'gives the same bits when blocks are computed again, in a smaller arena: %s',
    async (trait) => {
      const results = [];
      for (const recompute of [false, true]) {
        const model = await load(trait, wasm);
        const step = await compile(model, { recompute, clipNorm: 0.5 });
        results.push({ losses: await run(step, 3), weights: await weightsOf(model), plan: step.plan });
        step.dispose();
        model.dispose();
      }
      expect(results[1].losses).toEqual(results[0].losses);
      expect(results[1].weights).toEqual(results[0].weights);
      expect(results[1].plan.arenaBytes).toBeLessThan(results[0].plan.arenaBytes);
    },
  );

  it.each([{ kind: 'sgd', momentum: 0.9, nesterov: true }, { kind: 'sgd' }] as const)(
    'takes other optimizers: %o',
    async (optimizer) => {
      const model = await load(traits[0], wasm);
      const step = await compile(model, { optimizer });
      const losses = await run(step, 6, 1, 0.05);
      for (const [i, loss] of losses.slice(1).entries()) expect(loss).toBeLessThan(losses[i]);
      expect(step.plan.stateBytes).toBe(
        (optimizer.kind === 'sgd' && 'momentum' in optimizer ? 2 : 1) * model.byteLength,
      );
      step.dispose();
      model.dispose();
    },
  );

  it('trains through quantized weights and activations by rules that the caller gives', async () => {
    const [weight, activation] = [parseFormat('fp4-e2m1-channel'), parseFormat('mxfp4')];
    const model = await load(traits[0], wasm);
    const options: Partial<TrainingStepOptions> = {
      forward: (name, w) => (/proj\.weight$/.test(name) ? dequantize(withGradient(quantize(w, weight), dge())) : w),
      activation: () => ({ format: activation }),
    };
    await expect(compile(model, options)).rejects.toThrow('quantize: no gradient is defined through');
    const step = await compile(model, { ...options, rules: { quantize: straightThrough } });
    const losses = await run(step, 12);
    expect(losses[11]).toBeLessThan(losses[0] - 0.5);
    const plain = await load(traits[0], wasm);
    const other = await compile(plain);
    expect(Math.abs((await run(other, 1))[0] - losses[0])).toBeGreaterThan(1e-3);
    for (const item of [step, model, other, plain]) item.dispose();
  });

  it('changes no weight when an id is outside the vocabulary', async () => {
    const model = await load(traits[0], wasm);
    const step = await compile(model);
    await run(step, 1);
    const before = await weightsOf(model);
    step.write(
      'ids',
      ids.map((id, i) => (i === 4 ? 40 : id)),
    );
    expect(() => step.run()).toThrow('embedding: an id is out of range in embedding#');
    expect(await weightsOf(model)).toEqual(before);
    step.dispose();
    model.dispose();
  });

  it('loads 16-bit weights as f32', async () => {
    const source = await tinyWeights(tinyModel({ ...tinyConfigs[traits[0]], ...small }, 3));
    const name = 'model.layers.0.self_attn.q_proj.weight';
    const stored = encode(gaussian(1, [32, 32]), 32, 32, parseFormat('bf16'));
    const model = await loadTrainable(
      { ...source, load: async (n) => (n === name ? qtensor([32, 32], stored) : source.load(n)) },
      wasm,
    );
    expect(model.types.get(name)).toEqual({ dtype: 'f32', shape: [32, 32] });
    expect((await weightsOf(model)).get(name)).toEqual(decode(stored));
    model.dispose();
  });
});
