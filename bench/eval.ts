// Tokens a second of evaluation on the same model: ours (WASM) against llama.cpp (node-llama-cpp, native AVX-512), both
// on the CPU with the same number of threads, windows of 512 tokens, weights as stored in the same GGUF file.
//
// llama.cpp processes the windows as prompts and computes the logits of the last position only; ours computes the loss
// of every position. Checked in the run: perplexity of two windows within 1 %.

import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { cpus, tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { createWasmBackend } from '../src/backends/wasm/backend.ts';
import { renderTable } from '../src/cli/table.ts';
import { measurePerplexity } from '../src/evaluate/perplexity.ts';
import { encodeText } from '../src/evaluate/tokens.ts';
import { openCheckpoint } from '../src/io/open.ts';
import { readText } from '../src/io/text.ts';
import { loadTokenizer } from '../src/io/tokenizer.ts';
import { loadDecoder } from '../src/models/loaded.ts';
import { openWeights } from '../src/models/weights.ts';
import { perplexity, runLlama } from '../test/clients/llama-cpp.ts';
import type { SpeedAnswer, SpeedRequest } from './llama-speed-child.ts';
import type { BenchOptions } from './run.ts';

const root = fileURLToPath(new URL('..', import.meta.url));
const window = 512;

interface EvalRow {
  type: string;
  threads: number;
  ours: number;
  llama: number;
  ratio: number;
  perplexityDifference: number;
}

export async function run(options: BenchOptions): Promise<EvalRow[]> {
  const folder = await mkdtemp(path.join(tmpdir(), 'subbyte-bench-'));
  const windows = options.quick ? 2 : 16;
  const rows: EvalRow[] = [];
  try {
    for (const type of ['bf16', 'q8_0', 'ggml-mxfp4']) {
      const args = ['quantize', path.join(root, 'models/qwen3-6m'), '-f', type, '--to', 'gguf', '-o', folder];
      await runCommand([...args, '--no-verify', '--no-eval', '--quiet']);
      const file = path.join(folder, `qwen3-6m-${type}.gguf`);
      const tokens = await firstTokens(file, windows * window);
      const parts = Array.from({ length: windows }, (_, i) => [...tokens.subarray(i * window, (i + 1) * window)]);
      for (const threads of new Set([1, cpus().length])) {
        const ours = await measureOurs(file, tokens, threads);
        const llama = await measureLlama({ file, windows: parts, threads });
        const [{ nll }] = await runLlama([{ file, windows: parts.slice(0, 2) }]);
        const theirs = perplexity(nll);
        rows.push({
          type,
          threads,
          ours: ours.tokensPerSecond,
          llama: llama.tokensPerSecond,
          ratio: ours.tokensPerSecond / llama.tokensPerSecond,
          perplexityDifference: ours.firstTwo / theirs - 1,
        });
      }
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
  const titles = ['type', 'threads', 'ours tok/s', 'llama.cpp tok/s', 'ratio', 'perplexity difference'];
  console.error(
    renderTable(
      titles.map((title, i) => ({ title, align: i === 0 ? 'left' : 'right' })),
      rows.map((r) => [
        r.type,
        String(r.threads),
        r.ours.toFixed(0),
        r.llama.toFixed(0),
        r.ratio.toFixed(2),
        `${(100 * r.perplexityDifference).toFixed(2)} %`,
      ]),
    ),
  );
  return rows;
}

async function firstTokens(file: string, count: number): Promise<Int32Array> {
  const checkpoint = await openCheckpoint(file);
  const tokenizer = await loadTokenizer(checkpoint);
  const text = await readText(path.join(root, 'models/val.txt.xz'));
  await checkpoint.close();
  return encodeText((part) => tokenizer.encode(part), text, count);
}

async function measureOurs(file: string, tokens: Int32Array, threads: number) {
  const checkpoint = await openCheckpoint(file);
  const backend = await createWasmBackend({ threads });
  try {
    const model = await loadDecoder(await openWeights(checkpoint), backend);
    const { perplexity: firstTwo } = await measurePerplexity(model, tokens.subarray(0, 2 * window), { window });
    const { tokensPerSecond } = await measurePerplexity(model, tokens, { window });
    return { tokensPerSecond, firstTwo };
  } finally {
    backend.dispose();
    await checkpoint.close();
  }
}

function measureLlama(request: SpeedRequest): Promise<SpeedAnswer> {
  return runCommand(
    [],
    fileURLToPath(new URL('./llama-speed-child.ts', import.meta.url)),
    JSON.stringify(request),
  ).then((out) => JSON.parse(out.trim().split('\n').at(-1) ?? ''));
}

function runCommand(args: string[], program = path.join(root, 'bin/subbyte.mjs'), input = ''): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, ['--no-warnings', program, ...args], { stdio: ['pipe', 'pipe', 'inherit'] });
    let out = '';
    child.stdout.on('data', (data) => {
      out += data;
    });
    child.on('close', (code) =>
      code === 0 ? resolve(out) : reject(new Error(`bench: ${program} ended with ${code}`)),
    );
    child.stdin.end(input);
  });
}
