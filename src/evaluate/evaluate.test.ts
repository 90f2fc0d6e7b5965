// Perplexity, divergence, verification and generation against what plain float64 loops give for the same tiny models.

import { afterAll, describe, expect, it } from 'vitest';
import { tinyWeights } from '../../test/fixtures/models/memory-source.ts';
import { plainForward } from '../../test/fixtures/models/plain-forward.ts';
import { type TinyModel, tinyConfigs, tinyModel } from '../../test/fixtures/models/tiny-models.ts';
import type { Backend } from '../backends/backend.ts';
import { createReferenceBackend } from '../backends/reference/reference-backend.ts';
import { createWasmBackend } from '../backends/wasm/backend.ts';
import { uniformSource } from '../formats/random.ts';
import { loadDecoder } from '../models/loaded.ts';
import { measureDivergence } from './divergence.ts';
import { generate } from './generate.ts';
import { measurePerplexity } from './perplexity.ts';
import type { EvaluationProgress } from './progress.ts';
import { sampleToken } from './sampling.ts';
import { verifyParity } from './verify.ts';

const reference = createReferenceBackend();
const wasm = await createWasmBackend();
afterAll(() => {
  reference.dispose();
  wasm.dispose();
});
const load = async (model: TinyModel, backend: Backend) => loadDecoder(await tinyWeights(model), backend);

const tokens = Int32Array.from({ length: 75 }, (_, i) => (i * i * 7 + 3 * i) % 96);
const window = 16;
const qwen = tinyConfigs['qwen3, q/k norm, head_dim 24, tied'];
const original = tinyModel(qwen, 3);
const near = perturbed(original, 0.02);
const far = perturbed(original, 0.2);

/** Log-probabilities [T][V] of each whole window by plain loops. */
function windows(model: TinyModel): Float64Array[][] {
  return Array.from({ length: Math.floor(tokens.length / window) }, (_, i) =>
    plainForward(model, [...tokens.subarray(i * window, (i + 1) * window)]).map((row) => {
      const total = Math.log(row.reduce((sum, v) => sum + Math.exp(v), 0));
      return row.map((v) => v - total);
    }),
  );
}

/** Negative log-likelihoods of the predicted tokens. */
function losses(logs: Float64Array[][]): number[] {
  return logs.flatMap((rows, i) => rows.slice(0, -1).map((row, t) => -row[tokens[i * window + t + 1]]));
}

describe.each([reference, wasm] as Backend[])('$name', (backend) => {
  it('measures the perplexity of whole windows', async () => {
    const model = await load(original, backend);
    const expected = losses(windows(original));
    const seen: EvaluationProgress[] = [];
    const result = await measurePerplexity(model, tokens, { window, batch: 3, onProgress: (p) => seen.push(p) });
    const nll = expected.reduce((a, b) => a + b) / expected.length;
    expect(result.tokens).toBe(4 * 15);
    expect(result.nll).toBeCloseTo(nll, 5);
    expect(result.perplexity / Math.exp(nll)).toBeCloseTo(1, 5);
    expect(seen.map((p) => [p.done, p.total])).toEqual([
      [48, 64],
      [64, 64],
    ]);
    model.dispose();
  });

  it('measures two candidates against the original, in chunks of rows', async () => {
    const models = [await load(original, backend), await load(near, backend), await load(far, backend)];
    const candidates = models.slice(1).map((model) => ({ model }));
    const results = await measureDivergence(models[0], candidates, tokens, {
      window,
      batch: 2,
      logitBytes: 8 * 96 * 7,
    });
    const p = windows(original);
    for (const [i, candidate] of [near, far].entries()) {
      const q = windows(candidate);
      const rows = p.flatMap((w, n) => w.slice(0, -1).map((row, t) => ({ p: row, q: q[n][t] })));
      const kl = rows.map((r) => r.p.reduce((sum, lp, v) => sum + Math.exp(lp) * (lp - r.q[v]), 0));
      const mean = kl.reduce((a, b) => a + b) / kl.length;
      const deviation = Math.sqrt(kl.reduce((sum, v) => sum + (v - mean) ** 2, 0) / (kl.length - 1));
      const best = (row: Float64Array) => row.indexOf(Math.max(...row));
      const result = results[i];
      expect(result.tokens).toBe(60);
      expect(result.kl / mean).toBeCloseTo(1, 3);
      expect(result.klError / (deviation / Math.sqrt(kl.length))).toBeCloseTo(1, 3);
      expect(result.klMax / Math.max(...kl)).toBeCloseTo(1, 3);
      expect(result.top1).toBeCloseTo(rows.filter((r) => best(r.p) === best(r.q)).length / 60, 6);
      expect(result.nll).toBeCloseTo(losses(q).reduce((a, b) => a + b) / 60, 5);
      expect(result.originalNll).toBeCloseTo(losses(p).reduce((a, b) => a + b) / 60, 5);
    }
    expect(results[1].kl).toBeGreaterThan(10 * results[0].kl);
    for (const model of models) model.dispose();
  });

  const families = [
    'mistral, sliding window, tied',
    'qwen3, q/k norm, head_dim 24, tied',
    'mixtral, 4 experts, 2 a token',
  ];
  for (const name of families)
    it(`generates with a cache what plain loops choose without one: ${name}`, async () => {
      const model = tinyModel(tinyConfigs[name], 5);
      const decoder = await load(model, backend);
      for (const sampling of [{}, { temperature: 0.9, topK: 20, topP: 0.9, seed: 11 }]) {
        const uniform = uniformSource(11, 0);
        const text = [...tokens.subarray(0, 37)]; // longer than one chunk of the prompt
        for (let i = 0; i < 6; i++) {
          const logits = Float32Array.from(plainForward(model, text).at(-1)!);
          text.push(sampleToken(logits, sampling, uniform.at(i)));
        }
        const streamed: number[] = [];
        const result = await generate(decoder, [...tokens.subarray(0, 37)], {
          ...sampling,
          maxTokens: 6,
          onToken: (id) => streamed.push(id),
        });
        expect(result.tokens).toEqual(text.slice(37));
        expect(streamed).toEqual(result.tokens);
        expect(result.reason).toBe('length');
      }
      decoder.dispose();
    });
});

describe('verifyParity', () => {
  it('passes for two backends and fails for other weights', async () => {
    const [a, b, c] = [await load(original, reference), await load(original, wasm), await load(near, wasm)];
    const same = await verifyParity({ model: a }, { model: b }, tokens.subarray(0, 24));
    expect(same).toMatchObject({ pass: true, failures: [], top1: 1, tokens: 24 });
    expect(same.maxError).toBeGreaterThan(0);
    const other = await verifyParity({ model: a }, { model: c }, tokens.subarray(0, 24));
    expect(other.pass).toBe(false);
    expect(other.failures.join('\n')).toMatch(/mean KL divergence is .*, expected at most 0\.00001/);
  });
});

describe('generate', () => {
  it('ends at a stop id, which is not part of the text', async () => {
    const model = await load(original, wasm);
    const prompt = [...tokens.subarray(0, 5)];
    const { tokens: free } = await generate(model, prompt, { maxTokens: 8 });
    const stop = free[4];
    const cut = await generate(model, prompt, { maxTokens: 8, stopIds: [stop] });
    expect(cut).toMatchObject({ tokens: free.slice(0, free.indexOf(stop)), reason: 'stop' });
    const before = wasm.usedBytes;
    await generate(model, prompt, { maxTokens: 1 });
    expect(wasm.usedBytes).toBe(before);
  });

  it('names a prompt that cannot be continued', async () => {
    const model = await load(original, reference);
    await expect(generate(model, [])).rejects.toThrow(/the prompt is empty/);
    await expect(generate(model, [96])).rejects.toThrow(/outside the vocabulary, got 96, expected 0 to 95/);
    await expect(generate(model, [1], { maxTokens: 64 })).rejects.toThrow(/got 65, expected at most 64/);
    await expect(generate(model, [1], { temperature: -1 })).rejects.toThrow(/wrong temperature/);
  });
});

describe('an evaluation that cannot go on', () => {
  it('stops when asked to and leaves nothing behind', async () => {
    const model = await load(original, wasm);
    const before = wasm.usedBytes;
    const stop = new AbortController();
    const run = measurePerplexity(model, tokens, {
      window,
      batch: 1,
      signal: stop.signal,
      onProgress: () => stop.abort(new Error('enough')),
    });
    await expect(run).rejects.toThrow('enough');
    expect(wasm.usedBytes).toBe(before);
  });

  it('says so when the output is not a number', async () => {
    const broken = perturbed(original, 0);
    broken.weights.get('model.norm.weight')!.data.fill(3e38);
    const model = await load(broken, reference);
    await expect(measurePerplexity(model, tokens, { window })).rejects.toThrow(/not a finite number/);
  });

  it('refuses models with different vocabularies', async () => {
    const small = tinyModel({ ...qwen, vocab_size: 64 }, 1);
    const models = [await load(original, reference), await load(small, reference)];
    await expect(measureDivergence(models[0], [{ model: models[1] }], tokens)).rejects.toThrow(/got 64, expected 96/);
  });
});

/** The model with relative noise on its linear layers. */
function perturbed(model: TinyModel, noise: number): TinyModel {
  const uniform = uniformSource(9, 0);
  let n = 0;
  const weights: TinyModel['weights'] = new Map();
  for (const [name, { shape, data }] of model.weights) {
    const scale = () => (name.includes('proj') ? 1 + noise * (uniform.at(n++) - 0.5) : 1);
    weights.set(name, { shape, data: data.map((v) => Math.fround(v * scale())) });
  }
  return { ...model, weights };
}
