// Quantized keys and values in whole models: windows and generation token by token give the same likelihoods, texts do
// not depend on how a prompt is cut, and evaluation takes the scheme of the model's own file.

import { afterAll, describe, expect, it } from 'vitest';
import { tinyWeights } from '../../test/fixtures/models/memory-source.ts';
import { type TinyModel, tinyConfigs, tinyModel } from '../../test/fixtures/models/tiny-models.ts';
import type { Backend } from '../backends/backend.ts';
import { createReferenceBackend } from '../backends/reference/reference-backend.ts';
import { createWasmBackend } from '../backends/wasm/backend.ts';
import { buildDecoder, cacheStates } from '../models/decoder.ts';
import { parseKvScheme } from '../models/kv-scheme.ts';
import { type LoadedDecoder, loadDecoder } from '../models/loaded.ts';
import { measureDivergence } from './divergence.ts';
import { generate } from './generate.ts';
import { measurePerplexity } from './perplexity.ts';
import { windowLogits } from './verify.ts';

const backends: Backend[] = [createReferenceBackend(), await createWasmBackend({ threads: 2 })];
afterAll(() => {
  for (const backend of backends) backend.dispose();
});

const load = async (model: TinyModel, backend: Backend) => loadDecoder(await tinyWeights(model), backend);
const ids = Int32Array.from({ length: 60 }, (_, i) => (i * i * 7 + 3 * i) % 96);

/** Negative log-likelihood of each next token, by a window. */
async function byWindow(model: LoadedDecoder, kv: string): Promise<number[]> {
  const graph = buildDecoder(model.config, model.types, {
    batch: 1,
    tokens: ids.length,
    mode: 'nll',
    kv: parseKvScheme(kv),
  });
  const run = await model.backend.compile(graph, { params: model.buffers });
  run.write('ids', ids);
  run.write('targets', Int32Array.from([...ids.slice(1), -1]));
  await run.run();
  const nll = [...(await run.read('nll')).data].slice(0, -1);
  run.dispose();
  return nll;
}

/** The same by a cache that `tokens` tokens at a time are appended to; one run is repeated for each of its tokens. */
async function byCache(model: LoadedDecoder, kv: string, tokens = 1): Promise<number[]> {
  const { backend, config } = model;
  const cache = { batch: 1, cacheTokens: ids.length, mostTokens: tokens, kv: parseKvScheme(kv) };
  const states = new Map([...cacheStates(config, cache)].map(([name, type]) => [name, backend.allocate(type)]));
  const graph = buildDecoder(config, model.types, { ...cache, tokens, mode: 'decode' });
  const run = await backend.compile(graph, { params: model.buffers, states });
  const nll: number[] = [];
  for (let t = 0; t < ids.length - 1; t++) {
    const first = t - (t % tokens);
    run.write('ids', ids.subarray(first, first + tokens));
    run.write(
      'positions',
      Int32Array.from({ length: tokens }, (_, i) => first + i),
    );
    run.write('start', Int32Array.of(first));
    run.write('last', Int32Array.of(t - first));
    await run.run();
    const logits = [...(await run.read('logits')).data];
    const most = Math.max(...logits);
    nll.push(most + Math.log(logits.reduce((sum, v) => sum + Math.exp(v - most), 0)) - logits[ids[t + 1]]);
  }
  run.dispose();
  for (const buffer of states.values()) buffer.dispose();
  return nll;
}

const mean = (x: number[]) => x.reduce((a, b) => a + b) / x.length;
const worst = (a: number[], b: number[]) => Math.max(...a.map((v, i) => Math.abs(v - b[i])));

const models: Record<string, Record<string, unknown>> = {
  'sliding window of 5': tinyConfigs['mistral, sliding window, tied'],
  'head dimension 24, two queries a key': tinyConfigs['qwen3, q/k norm, head_dim 24, tied'],
  'head dimension 80': { ...tinyConfigs['qwen3, q/k norm, head_dim 24, tied'], head_dim: 80 },
  'one key head': tinyConfigs['llama, one kv head, linear rope (transformers 4)'],
};
const schemes = [
  'k=int2-channel-g8,v=int2-g8,residual=16',
  'k=int4-channel-g16,v=int4,residual=32,sink=3',
  'k=int4-g8,v=fp8,residual=0',
  'k=f16,v=int8-g8,residual=8',
];

describe.each(backends)('$name', (backend) => {
  it.each(Object.entries(models))('gives a window and a growing cache the same likelihoods: %s', async (_, config) => {
    const model = await load(tinyModel(config, 5), backend);
    const exact = await byWindow(model, 'k=f16,v=f16,residual=64');
    for (const kv of schemes) {
      const window = await byWindow(model, kv);
      const steps = await byCache(model, kv);
      if (backend.name === 'reference') expect(worst(window, steps), kv).toBeLessThan(1e-5);
      else {
        // The wasm kernels sum the products of one row in another order than those of many rows. The head alone makes
        // likelihoods differ by 1e-5; in the layers a code or a scale then goes the other way now and then.
        expect(worst(window, await byCache(model, kv, ids.length)), kv).toBeLessThan(2e-5);
        expect(Math.abs(mean(window) - mean(steps)), kv).toBeLessThan(1e-4);
      }
      if (kv.includes('int2')) expect(worst(window, exact), kv).toBeGreaterThan(1e-2);
    }
    model.dispose();
  });

  it('continues a prompt as if the whole text were run anew, and counts the bytes of its cache', async () => {
    const model = await load(tinyModel(models['head dimension 24, two queries a key'], 3), backend);
    const kv = parseKvScheme('k=int2-channel-g8,v=int4-g8,residual=16,sink=1');
    for (const length of [3, 35, 44]) {
      const prompt = [...ids.subarray(0, length)];
      const result = await generate(model, prompt, { maxTokens: 12, temperature: 0, stopIds: [], kv });
      const text = [...prompt];
      for (const id of result.tokens) {
        const logits = await windowLogits({ model, kv }, Int32Array.from(text));
        const last = logits.subarray((text.length - 1) * 96);
        expect(last.indexOf(Math.max(...last))).toBe(id);
        text.push(id);
      }
      const exact = await generate(model, prompt, { maxTokens: 12, temperature: 0, stopIds: [], kv: 'none' });
      expect(exact.cacheBytes).toBeGreaterThanOrEqual(2 * 2 * 2 * 24 * 4 * (length + 12));
      expect(result.cacheBytes).toBeGreaterThan(0);
    }
    model.dispose();
  });

  it("takes the scheme of the model's file, and another one instead", async () => {
    const config = models['head dimension 24, two queries a key'];
    const kv = 'k=int2-channel-g8,v=int2-g8,residual=8';
    const plain = await load(tinyModel(config, 3), backend);
    const own = await load(tinyModel({ ...config, subbyte: { kv } }, 3), backend);
    const nll = async (model: LoadedDecoder, choice?: 'none') =>
      (await measurePerplexity(model, ids, { window: 30, kv: choice })).nll;
    const exact = await nll(plain);
    expect(await nll(own, 'none')).toBe(exact);
    const quantized = await nll(own);
    expect(Math.abs(quantized - exact)).toBeGreaterThan(1e-3);
    const scheme = parseKvScheme(kv);
    expect((await measurePerplexity(plain, ids, { window: 30, kv: scheme })).nll).toBe(quantized);
    const [r] = await measureDivergence(plain, [{ model: plain, kv: scheme }], ids, { window: 30 });
    expect(r.nll).toBeCloseTo(quantized, 5);
    expect(r.originalNll).toBeCloseTo(exact, 5);
    expect(r.kl).toBeGreaterThan(1e-3);
    for (const model of [plain, own]) model.dispose();
  });

  it('refuses a scheme that does not suit the model', async () => {
    const model = await load(tinyModel(models['head dimension 24, two queries a key'], 3), backend);
    const kv = parseKvScheme('k=int4-channel-g32,v=int4-g32,residual=32');
    await expect(measurePerplexity(model, ids, { kv })).rejects.toThrow(/v does not suit.*heads of 24.*use g8/);
    await expect(generate(model, [1], { kv })).rejects.toThrow(/v does not suit/);
    model.dispose();
  });
});
