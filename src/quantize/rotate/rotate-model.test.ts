import { afterAll, describe, expect, it } from 'vitest';
import { tinyWeights } from '../../../test/fixtures/models/memory-source.ts';
import { plainForward } from '../../../test/fixtures/models/plain-forward.ts';
import { tinyConfigs, tinyModel } from '../../../test/fixtures/models/tiny-models.ts';
import type { Backend } from '../../backends/backend.ts';
import { createReferenceBackend } from '../../backends/reference/reference-backend.ts';
import { createWasmBackend } from '../../backends/wasm/backend.ts';
import { generate } from '../../evaluate/generate.ts';
import { windowLogits } from '../../evaluate/verify.ts';
import { openCheckpoint } from '../../io/open.ts';
import { loadDecoder } from '../../models/loaded.ts';
import { denseF32 } from '../../models/stack.ts';
import { type ModelWeights, openWeights } from '../../models/weights.ts';
import { hadamardMatrix, randomSigns } from '../../tensor/hadamard.ts';
import { noRotation, offlineRotations, quarotRotations, type RotationOptions } from './options.ts';
import { rotateModel } from './rotate-model.ts';

const backends: Backend[] = [createReferenceBackend(), await createWasmBackend()];
afterAll(() => {
  for (const backend of backends) backend.dispose();
});

const ids = Array.from({ length: 12 }, (_, i) => (i * 29 + 5) % 96);

const recipes: Record<string, RotationOptions> = {
  'R1 without signs': { ...noRotation, residual: 'hadamard' },
  'R1 with signs': { ...noRotation, residual: 'hadamard', randomSigns: true, seed: 4 },
  R2: { ...noRotation, value: true, randomSigns: true, seed: 5 },
  R3: { ...noRotation, queryKey: true },
  R4: { ...noRotation, down: 'online' },
  'o_proj over its width': { ...noRotation, out: 'online' },
  'o_proj across heads': { ...noRotation, out: 'online', value: true },
  'blocks of 8': { ...noRotation, block: 8, queryKey: true },
  offline: { ...offlineRotations, seed: 6 },
  QuaRot: { ...quarotRotations, seed: 7 },
  'QuaRot with signs online': { ...quarotRotations, onlineSigns: true, seed: 8 },
};

async function logitsOf(weights: ModelWeights, backend: Backend, tokens: readonly number[]) {
  const decoder = await loadDecoder(weights, backend);
  const logits = await windowLogits({ model: decoder }, Int32Array.from(tokens));
  decoder.dispose();
  return logits;
}

/** ‖a − b‖∞ / ‖b‖∞ */
function relativeDifference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let [worst, largest] = [0, 0];
  for (let i = 0; i < b.length; i++) {
    worst = Math.max(worst, Math.abs(a[i] - b[i]));
    largest = Math.max(largest, Math.abs(b[i]));
  }
  return a.length === b.length ? worst / largest : Number.NaN;
}

describe.each(backends)('a rotated model computes what the original does, on $name', (backend) => {
  for (const [family, config] of Object.entries(tinyConfigs)) {
    const model = tinyModel(config, 3);
    const expected = plainForward(model, ids).flatMap((row) => [...row]);
    it.each(Object.entries(recipes))(`${family}: %s`, async (_, options) => {
      const rotated = await rotateModel(await tinyWeights(model), options);
      const logits = await logitsOf(rotated, backend, ids);
      expect(relativeDifference(logits, expected)).toBeLessThan(1e-5);
    });
  }
});

describe('widths without a Hadamard matrix', () => {
  const family = 'llama, one kv head, linear rope (transformers 4)';
  // 50 and heads of 10 have none: dense rotations offline, blocks of 2 online; 70 = 35 · 2
  const model = tinyModel(
    { ...tinyConfigs[family], hidden_size: 50, num_attention_heads: 5, intermediate_size: 70 },
    3,
  );
  const expected = plainForward(model, ids).flatMap((row) => [...row]);
  it.each(backends)('are rotated all the same on $name', async (backend) => {
    const options: RotationOptions = { ...quarotRotations, out: 'none', seed: 2 };
    const rotated = await rotateModel(await tinyWeights(model), options);
    expect(rotated.config.runtime.online.inputs).toEqual([{ match: '\\.mlp\\.down_proj$', size: 2 }]);
    expect(relativeDifference(await logitsOf(rotated, backend, ids), expected)).toBeLessThan(1e-5);
  });

  it('cannot be mixed across an odd number of heads', async () => {
    const weights = await tinyWeights(model);
    await expect(rotateModel(weights, { ...quarotRotations })).rejects.toThrow(/number of heads, got 5.*even/);
  });
});

describe('a rotated checkpoint', async () => {
  const checkpoint = await openCheckpoint('models/qwen3-6m');
  const weights = await openWeights(checkpoint);
  const tokens = Array.from({ length: 48 }, (_, i) => (i * 677 + 91) % 2048);
  const backend = backends[1];
  afterAll(() => checkpoint.close());

  it.each(['QuaRot', 'blocks of 8', 'offline'])('of head dimension 80 gives the same logits: %s', async (name) => {
    const rotated = await rotateModel(weights, recipes[name]);
    const expected = await logitsOf(weights, backend, tokens);
    expect(relativeDifference(await logitsOf(rotated, backend, tokens), expected)).toBeLessThan(1e-5);
  });

  it('continues a text with the same tokens from its key/value cache', async () => {
    const texts = [];
    for (const model of [weights, await rotateModel(weights, recipes.QuaRot)]) {
      const decoder = await loadDecoder(model, backend);
      texts.push((await generate(decoder, tokens.slice(0, 40), { maxTokens: 24, temperature: 0 })).tokens);
      decoder.dispose();
    }
    expect(texts[1]).toEqual(texts[0]);
  });

  it('has ones for gains, a head of its own, and the product D · H in its weights', async () => {
    const rotated = await rotateModel(weights, { ...noRotation, residual: 'hadamard', randomSigns: true, seed: 11 });
    expect(rotated.config.tiedEmbeddings).toBe(false);
    expect(rotated.hfConfig.tie_word_embeddings).toBe(false);
    expect(rotated.names()).toContain('lm_head.weight');
    expect(rotated.format('lm_head.weight')).toEqual({ kind: 'float', name: 'f32' });
    expect(rotated.format('model.layers.0.self_attn.q_norm.weight')).toEqual({ kind: 'float', name: 'bf16' });
    const value = async (model: ModelWeights, name: string) => denseF32(await model.load(name));
    expect(new Set(await value(rotated, 'model.norm.weight'))).toEqual(new Set([1]));
    const gain = await value(weights, 'model.norm.weight');
    const table = await value(weights, 'model.embed_tokens.weight');
    const head = await value(rotated, 'lm_head.weight');
    const [h, signs] = [hadamardMatrix(256), randomSigns(256, 11)];
    for (const [token, column] of [
      [0, 0],
      [7, 200],
      [2047, 31],
    ]) {
      let sum = 0;
      for (let i = 0; i < 256; i++) sum += table[token * 256 + i] * gain[i] * signs[i] * h[i * 256 + column];
      expect(head[token * 256 + column]).toBeCloseTo(sum / 16, 6);
    }
  });
});

describe('options', async () => {
  const weights = await tinyWeights(tinyModel(tinyConfigs['qwen3, q/k norm, head_dim 24, tied'], 3));
  it.each([
    [{ block: 6 }, /size of a block, got 6.*power of two/],
    [{ block: 64 }, /block 64 does not divide.*got 96/],
    [{ block: 8, value: true }, /block rotates the input of every layer.*leave out/],
    [{ block: 8, down: 'online' }, /leave out residual, value, down and out/],
    [{ seed: -1 }, /seed/],
  ] as [Partial<RotationOptions>, RegExp][])('%o are refused', async (options, message) => {
    await expect(rotateModel(weights, { ...noRotation, ...options })).rejects.toThrow(message);
  });

  it('are given all at once', async () => {
    const once = await rotateModel(weights, { ...noRotation, down: 'online' });
    await expect(rotateModel(once, { ...noRotation, value: true })).rejects.toThrow(/has online rotations already/);
  });

  it('that rotate nothing change no tensor', async () => {
    const same = await rotateModel(weights, noRotation);
    expect(same.hfConfig).toEqual(weights.hfConfig);
    for (const name of same.names()) expect(await same.load(name)).toEqual(await weights.load(name));
  });
});
