// llama.cpp computes the network that we mean: tiny random models of every family, written as F32 GGUF, give the
// log-likelihoods of a forward pass in plain loops that shares no code with the engine.

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openGguf } from '../../src/io/gguf.ts';
import { writeGguf } from '../../src/io/gguf-writer.ts';
import { planGguf } from '../../src/models/gguf-export.ts';
import { denseF32 } from '../../src/models/stack.ts';
import { openWeights } from '../../src/models/weights.ts';
import { tinyWeights } from '../fixtures/models/memory-source.ts';
import { plainForward } from '../fixtures/models/plain-forward.ts';
import { type TinyModel, tinyConfigs, tinyModel } from '../fixtures/models/tiny-models.ts';
import { runLlama } from './llama-cpp.ts';
import type { LlamaAnswer } from './llama-cpp-child.ts';

/** What llama.cpp's graphs cannot vary: no sliding windows, experts in every layer. */
const adjusted: Record<string, Record<string, unknown>> = {
  mistral: { sliding_window: 64 },
  qwen2: { use_sliding_window: false },
  qwen2_moe: { mlp_only_layers: [] },
  qwen3_moe: { decoder_sparse_step: 1 },
};
const cases = Object.entries(tinyConfigs).map(([name, config], i) => {
  const model = tinyModel({ ...config, ...adjusted[config.model_type as string] }, 40 + i);
  return { name, file: `${i}.gguf`, model };
});
const ids = Array.from({ length: 40 }, (_, i) => (i * i * 7 + 3 * i + 5) % 96);

/** 96 tokens of the byte alphabet; llama.cpp wants at least one merge. */
const characters = Array.from({ length: 94 }, (_, i) => String.fromCharCode(33 + i));
const tokenizer = {
  added_tokens: [{ id: 95, content: '<s>', special: true }],
  pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, use_regex: true },
  model: {
    type: 'BPE',
    vocab: Object.fromEntries([...characters, 'Ġ', '<s>'].map((c, i) => [c, i])),
    merges: [['a', 'b']],
  },
};

let folder: string;
let answers: LlamaAnswer[];
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'subbyte-architectures-'));
  for (const { model, file } of cases) {
    const weights = await tinyWeights(model);
    const format = () => ({ kind: 'float', name: 'f32' }) as const;
    const plan = planGguf({ model: weights, format, load: weights.load, tokenizer: { tokenizer }, name: 'tiny' });
    await writeGguf({ path: join(folder, file), metadata: plan.metadata, tensors: plan.tensors });
  }
  answers = await runLlama(cases.map(({ file }) => ({ file: join(folder, file), windows: [ids] })));
}, 180_000);
afterAll(() => rm(folder, { recursive: true, force: true }));

const likelihoods = (model: TinyModel) =>
  plainForward(model, ids)
    .slice(0, -1)
    .map((row, t) => Math.log([...row].reduce((sum, v) => sum + Math.exp(v), 0)) - row[ids[t + 1]]);

describe.each(cases)('$name', ({ model, file, name }) => {
  it('has the log-likelihoods of plain loops in llama.cpp', () => {
    const [got] = answers[cases.findIndex((c) => c.name === name)].nll;
    const expected = likelihoods(model);
    expect(Math.max(...expected)).toBeGreaterThan(5); // not flat
    const worst = Math.max(...expected.map((x, i) => Math.abs(x - got[i])));
    expect(worst).toBeLessThan(2e-3);
  });

  it('reads back: config and every weight', async () => {
    const before = await tinyWeights(model);
    const checkpoint = await openGguf(join(folder, file));
    const after = await openWeights(checkpoint);
    const { dtype: _, bosId: _b, stopIds: _s, ...config } = after.config;
    expect(config).toEqual((({ dtype, bosId, stopIds, ...rest }) => rest)(before.config));
    const bytes = (values: Float32Array) => Buffer.from(values.buffer, values.byteOffset, values.byteLength);
    for (const name of before.names()) {
      const [got, expected] = [denseF32(await after.load(name)), denseF32(await before.load(name))];
      expect(bytes(got).equals(bytes(expected)), name).toBe(true);
    }
    await checkpoint.close();
  });
});
