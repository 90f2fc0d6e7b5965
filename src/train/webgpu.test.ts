// Whole training steps on the GPU backend: AdamW steps of tiny decoders agree with those of the other backends.
//
// Tolerances are those between WASM and the reference (step.test.ts): losses within 2e-5 of each other; of the weights,
// fewer than one in a hundred further apart than 1e-4 (see there why some are).

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { tinyWeights } from '../../test/fixtures/models/memory-source.ts';
import { tinyConfigs, tinyModel } from '../../test/fixtures/models/tiny-models.ts';
import { createTestBackend, missingGpu } from '../../test/support/software-gpu.ts';
import type { Backend } from '../backends/backend.ts';
import { createReferenceBackend } from '../backends/reference/reference-backend.ts';
import { createWasmBackend, type WasmBackend } from '../backends/wasm/backend.ts';
import type { WebgpuBackend } from '../backends/webgpu/backend.ts';
import { parseFormat } from '../formats/registry.ts';
import { straightThrough, withGradient } from '../graph/gradient-rules.ts';
import { dequantize, quantize } from '../graph/ops/quantize.ts';
import { dge } from '../graph/rounding-rules.ts';
import { buildTrainingStep, loadTrainable, readWeights, type TrainingStepOptions } from './step.ts';

const [B, T, V] = [3, 7, 40];
const steps = 4;
const ids = Int32Array.from({ length: B * T }, (_, i) => (i * 17 + 3) % V);
const targets = ids.map((_, i) => (i % T >= T - 2 ? -1 : ids[i + 1]));

interface Trained {
  readonly losses: readonly number[];
  readonly norms: readonly number[];
  readonly weights: ReadonlyMap<string, Float32Array>;
}

/** Takes AdamW steps with clipped gradients on one batch. */
async function train(
  trait: string,
  backend: Backend,
  { wrongId = false, ...extra }: Partial<TrainingStepOptions> & { wrongId?: boolean } = {},
): Promise<Trained> {
  const sizes = { hidden_size: 32, intermediate_size: 64, vocab_size: V };
  const model = await loadTrainable(await tinyWeights(tinyModel({ ...tinyConfigs[trait], ...sizes }, 3)), backend);
  const options = { batch: B, tokens: T, optimizer: { kind: 'adamw' }, clipNorm: 0.5, ...extra } as const;
  const graph = buildTrainingStep(model.config, model.types, options);
  const step = await backend.compile(graph, { params: new Map(), states: model.buffers });
  step.write('ids', ids);
  step.write('targets', targets);
  step.write('learningRate', Float32Array.of(3e-3));
  const [losses, norms]: number[][] = [[], []];
  for (let t = 1; t <= steps; t++) {
    step.write('step', Int32Array.of(t));
    await step.run();
    losses.push((await step.read('loss')).data[0]);
    norms.push((await step.read('gradientNorm')).data[0]);
  }
  if (wrongId) {
    step.write('ids', new Int32Array(B * T).fill(V));
    await expect((async () => step.run())()).rejects.toThrow('embedding: an id is out of range');
  }
  const weights = new Map<string, Float32Array>();
  for await (const [name, { data }] of readWeights(model)) weights.set(name, Float32Array.from(data));
  step.dispose();
  model.dispose();
  return { losses, norms, weights };
}

function expectClose(found: Trained, expected: Trained): void {
  for (const [i, loss] of expected.losses.entries()) expect(Math.abs(found.losses[i] / loss - 1)).toBeLessThan(2e-5);
  for (const [i, norm] of expected.norms.entries()) expect(Math.abs(found.norms[i] / norm - 1)).toBeLessThan(1e-4);
  for (const [name, values] of expected.weights) {
    const other = found.weights.get(name)!;
    const apart = values.filter((w, i) => Math.abs(w - other[i]) > 1e-4).length;
    expect(apart / values.length, name).toBeLessThan(0.01);
  }
}

const missing = missingGpu();

describe.skipIf(missing)(`training on webgpu${missing ? ` (${missing})` : ''}`, { timeout: 300_000 }, () => {
  let webgpu: WebgpuBackend;
  let wasm: WasmBackend;
  beforeAll(async () => {
    webgpu = await createTestBackend();
    wasm = await createWasmBackend({ threads: 2 });
  });
  afterAll(() => {
    expect(webgpu.usedBytes).toBe(0);
    webgpu.dispose();
    wasm.dispose();
  });

  it.each([
    'llama, biases everywhere, llama3 rope (transformers 5)',
    'mixtral, 4 experts, 2 a token',
    'qwen3, q/k norm, head_dim 24, tied',
  ])('%s: the steps of wasm and the reference', async (trait) => {
    const found = await train(trait, webgpu);
    const reference = await train(trait, createReferenceBackend());
    expect(reference.losses[steps - 1]).toBeLessThan(reference.losses[0] - 0.05);
    expectClose(found, reference);
    expectClose(found, await train(trait, wasm));
    // Blocks that are computed again give the same bits; a run with wrong data changes no weight.
    expect(await train(trait, webgpu, { recompute: true, wrongId: true })).toEqual(found);
  });

  it('trains through FP4 weights and activations', async () => {
    const [weight, activation] = [parseFormat('fp4-e2m1-channel'), parseFormat('mxfp4')];
    const options: Partial<TrainingStepOptions> = {
      forward: (name, w) => (/proj\.weight$/.test(name) ? dequantize(withGradient(quantize(w, weight), dge())) : w),
      activation: () => ({ format: activation }),
      rules: { quantize: straightThrough },
    };
    const trait = 'llama, one kv head, linear rope (transformers 4)';
    const expected = await train(trait, wasm, options);
    expect(expected.losses[steps - 1]).toBeLessThan(expected.losses[0] - 0.5);
    // Codes are the same, and sums differ in their last bits: the tolerances of f32 hold unless one falls on a middle.
    expectClose(await train(trait, webgpu, options), expected);
  });
});
