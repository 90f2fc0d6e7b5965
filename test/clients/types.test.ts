// llama.cpp loads what we write, in every type that GGUF shares with us, and computes the same perplexity.
//
// Protocol: models/qwen3-6m; the decoder's linear layers in the type (or the fallback where K = 320 or 704 does not fit
// blocks of 256), embeddings bf16; one window of 512 tokens of ARCHITECTURE.md without BOS, 511 predicted tokens. llama.cpp
// rounds activations to 8 bits for quantized types, ours keeps f32: they agree within 1 %. To keep the test short, most
// types are put on the first layer only (the others bf16) and run on 128 tokens: a wrong block layout shows there as well.

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Backend } from '../../src/backends/backend.ts';
import { createWasmBackend } from '../../src/backends/wasm/backend.ts';
import type { Format } from '../../src/formats/format.ts';
import { parseFormat } from '../../src/formats/registry.ts';
import type { GgufExport } from '../../src/models/gguf-export.ts';
import { exportGguf, openModel, ourPerplexity, shipped, type TestModel } from './export-model.ts';
import { perplexity, runLlama } from './llama-cpp.ts';
import type { LlamaAnswer } from './llama-cpp-child.ts';

const everyLayer = ['f16', 'q8_0', 'mxfp4', 'nvfp4'];
const firstLayer = [
  ...['f32', 'bf16', 'q4_0', 'q4_1', 'q5_0', 'q5_1', 'q2_k', 'q3_k', 'q4_k', 'q5_k', 'q6_k'],
  ...['iq4_nl', 'iq4_xs', 'tq1_0', 'tq2_0', 'q1_0', 'q2_0', 'nvfp4-46', 'nvfp4-2d', 'int4-g32', 'int8-channel'],
];
const names = [...everyLayer, ...firstLayer];

let folder: string;
let backend: Backend;
let model: TestModel;
let answers: LlamaAnswer[];
const exported = new Map<string, GgufExport>();
const file = (name: string) => join(folder, `${name}.gguf`);
const windowsOf = (name: string) =>
  everyLayer.includes(name) ? model.windows : [(model.windows[0] as number[]).slice(0, 128)];
const bf16: Format = { kind: 'float', name: 'bf16' };

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'subbyte-types-'));
  backend = await createWasmBackend({ threads: 1 });
  model = await openModel(shipped, 1);
  for (const name of names) {
    const format = parseFormat(name);
    const first = firstLayer.includes(name);
    const wanted = (tensor: string) => (first && !tensor.startsWith('model.layers.0.') ? bf16 : format);
    exported.set(name, await exportGguf(model, wanted, file(name)));
  }
  answers = await runLlama(names.map((name) => ({ file: file(name), windows: windowsOf(name) })));
}, 180_000);
afterAll(async () => {
  backend?.dispose();
  await model?.close();
  await rm(folder, { recursive: true, force: true });
});

it.each(names)('llama.cpp and we have the same perplexity within one percent: %s', async (name) => {
  const answer = answers[names.indexOf(name)];
  const theirs = perplexity(answer.nll);
  const ours = await ourPerplexity(file(name), windowsOf(name), backend);
  expect(theirs).toBeGreaterThan(20);
  expect(Math.abs(theirs / ours - 1)).toBeLessThan(name === 'f16' ? 1e-3 : 0.01);
});

it('stores K-quants as such where blocks of 256 fit, and says what else it did', () => {
  const plan = exported.get('q4_k') as GgufExport;
  const type = (name: string) => plan.tensors.find((t) => t.name === name)?.dtype;
  expect(type('blk.0.attn_q.weight')).toBe('ggml:q4_k');
  expect(type('blk.0.ffn_down.weight')).toBe('ggml:q5_0');
  expect(plan.notes).toContain('blk.0.ffn_down.weight: q5_0 instead, K = 704 is no multiple of 256 (q4_k)');
  expect(plan.notes).toHaveLength(2);
});

it('is described by llama.cpp as what it is', () => {
  const described = (name: string) => answers[names.indexOf(name)].description;
  expect(described('f16')).toMatch(/^qwen3 .*F16$/);
  expect(described('nvfp4')).toMatch(/NVFP4$/);
  // llama.cpp v0.5.0 has no name for files in which most tensors are MXFP4, and loads them all the same
  for (const { log } of answers) expect(log.filter((l) => !l.includes('unknown type mxfp4'))).toEqual([]);
});
