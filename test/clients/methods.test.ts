// llama.cpp runs what calibrated methods write, and gains by them what we say: GPTQ and importance in its own block types
// and in MXFP4, made by the command line.
//
// Protocol: models/qwen3-6m, 16 windows of 512 tokens of the calibration text that ships; perplexity of the first 8 windows
// of 512 tokens of the other text that ships, without BOS, in llama.cpp and here.

import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Backend } from '../../src/backends/backend.ts';
import { createWasmBackend } from '../../src/backends/wasm/backend.ts';
import { sampleText } from '../../src/cli/open-model.ts';
import { encodeText } from '../../src/evaluate/tokens.ts';
import { openCheckpoint } from '../../src/io/open.ts';
import { readText } from '../../src/io/text.ts';
import { loadTokenizer } from '../../src/io/tokenizer.ts';
import { shippedModel, subbyte } from '../cli/run-cli.ts';
import { ourPerplexity } from './export-model.ts';
import { perplexity, runLlama } from './llama-cpp.ts';
import type { LlamaAnswer } from './llama-cpp-child.ts';

const formats = ['q4_0', 'q4_k_m', 'mxfp4'];
const methods = ['rtn', 'gptq'];
const cases = formats.flatMap((format) => methods.map((method) => ({ format, method })));

let folder: string;
let backend: Backend;
let windows: number[][];
let files: string[];
let answers: LlamaAnswer[];

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'subbyte-methods-'));
  backend = await createWasmBackend({ threads: 1 });
  const checkpoint = await openCheckpoint(shippedModel);
  const tokenizer = await loadTokenizer(checkpoint);
  await checkpoint.close();
  const ids = encodeText((part) => tokenizer.encode(part), await readText(sampleText), 8 * 512);
  windows = Array.from({ length: 8 }, (_, i) => [...ids.subarray(512 * i, 512 * (i + 1))]);
  files = [];
  for (const method of methods) {
    const out = path.join(folder, method);
    const text = ['--samples', '16', '--no-eval', '--no-verify'];
    const args = [
      'quantize',
      shippedModel,
      '--method',
      method,
      '-f',
      formats.join(),
      '--to',
      'gguf',
      '-o',
      out,
      ...text,
    ];
    const run = await subbyte(args);
    expect(run.code, run.stderr).toBe(0);
  }
  for (const { format, method } of cases) {
    const names = await readdir(path.join(folder, method));
    const name = names.find((n) => n.startsWith(`qwen3-6m-${format}`) && !n.startsWith(`qwen3-6m-${format}_`));
    files.push(path.join(folder, method, name as string));
  }
  answers = await runLlama(files.map((file) => ({ file, windows })));
}, 240_000);
afterAll(async () => {
  backend?.dispose();
  await rm(folder, { recursive: true, force: true });
});

it.each(cases)('$format by $method: the perplexities agree within one percent', async ({ format, method }) => {
  const at = cases.findIndex((c) => c.format === format && c.method === method);
  const ours = await ourPerplexity(files[at], windows, backend);
  expect(Math.abs(perplexity(answers[at].nll) / ours - 1)).toBeLessThan(0.01);
});

it.each(formats)('%s: llama.cpp measures a lower perplexity of the solved file than of the rounded one', (format) => {
  const of = (method: string) =>
    perplexity(answers[cases.findIndex((c) => c.format === format && c.method === method)].nll);
  expect(of('gptq')).toBeLessThan(of('rtn'));
});
