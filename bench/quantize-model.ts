// Whole-model quantization through the command line, in GB/s of bf16 input, against plain reading and writing of the
// same bytes; with the peak memory of the process against the stated bound (3 × the largest tensor + 200 MB).
//
// The model is made here: Llama-shaped, Gaussian bf16 weights, about 1 GB (0.1 GB with --quick), in a temporary folder.
// Correctness in the same run: the first layer's tensors of each output are compared bit for bit with the scalar
// reference codec (`quantize` without --no-verify checks all of them; here that would be most of the time).

import { spawn } from 'node:child_process';
import { cp, mkdir, mkdtemp, open, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { renderTable } from '../src/cli/table.ts';
import { parseFormat } from '../src/formats/registry.ts';
import { openCheckpoint } from '../src/io/open.ts';
import { writeSafetensors } from '../src/io/safetensors-writer.ts';
import { parseConfig } from '../src/models/config.ts';
import { denseF32 } from '../src/models/stack.ts';
import { expectedTensors } from '../src/models/tensors.ts';
import { openWeights } from '../src/models/weights.ts';
import { gaussianMatrix } from '../src/quantize/gaussian.ts';
import type { OutputJob } from '../src/quantize/output.ts';
import { safetensorsOutput } from '../src/quantize/safetensors-output.ts';
import { referenceQuantizer } from '../src/quantize/tensor-quantizer.ts';
import type { BenchOptions } from './run.ts';

const root = fileURLToPath(new URL('..', import.meta.url));
const formats = ['mxfp4', 'nvfp4', 'int4-g128', 'int8-channel', 'fp8-e4m3-channel', 'q4_0', 'q8_0', 'q4_k', 'q6_k'];

interface ModelRow {
  format: string;
  seconds: number;
  gigabytesPerSecond: number;
  /** Time of plain read + write of the input's and output's bytes ÷ our time. */
  shareOfCopy: number;
  peakMegabytes: number;
  boundMegabytes: number;
  checked: string;
}

export async function run(options: BenchOptions): Promise<ModelRow[]> {
  const folder = await mkdtemp(path.join(tmpdir(), 'subbyte-bench-'));
  try {
    const { model, bytes, largest } = await makeModel(path.join(folder, 'model'), options.quick);
    const rows: ModelRow[] = [];
    for (const format of formats) {
      const out = path.join(folder, 'out');
      const args = ['quantize', model, '-f', format, '-o', out, '--no-verify', '--no-eval', '--json'];
      const { document, peak } = await runCommand([...args, '--to', format.startsWith('q') ? 'gguf' : 'safetensors']);
      const [entry] = document.outputs;
      const copy = await plainCopy(path.join(model, 'model.safetensors'), entry.bytes, path.join(folder, 'copy'));
      rows.push({
        format,
        seconds: entry.seconds,
        gigabytesPerSecond: bytes / entry.seconds / 1e9,
        shareOfCopy: copy / entry.seconds,
        peakMegabytes: peak / 1e6,
        boundMegabytes: (3 * largest + 200e6) / 1e6,
        checked: await check(model, entry.path, format),
      });
      await rm(out, { recursive: true });
    }
    console.error(
      renderTable(
        ['format', 'seconds', 'GB/s of bf16', '× plain copy', 'peak MB', 'bound MB', 'checked'].map((title, i) => ({
          title,
          align: i > 0 && i < 6 ? 'right' : 'left',
        })),
        rows.map((r) => [
          r.format,
          r.seconds.toFixed(2),
          r.gigabytesPerSecond.toFixed(3),
          r.shareOfCopy.toFixed(2),
          r.peakMegabytes.toFixed(0),
          r.boundMegabytes.toFixed(0),
          r.checked,
        ]),
      ),
    );
    return rows;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** A Llama with random weights; one matrix of Gaussian values serves all tensors. */
export async function makeModel(
  folder: string,
  quick: boolean,
): Promise<{ model: string; bytes: number; largest: number }> {
  await mkdir(folder, { recursive: true });
  const shipped = path.join(root, 'models/qwen3-6m');
  const config = {
    ...JSON.parse(await readFile(path.join(shipped, 'config.json'), 'utf8')),
    ...{ hidden_size: 2048, intermediate_size: 5632, head_dim: 64, num_attention_heads: 32, num_key_value_heads: 8 },
    ...{ num_hidden_layers: quick ? 1 : 10, layer_types: undefined },
  };
  await writeFile(path.join(folder, 'config.json'), JSON.stringify(config));
  for (const file of ['tokenizer.json', 'tokenizer_config.json'])
    await cp(path.join(shipped, file), path.join(folder, file));
  const gaussian = gaussianMatrix(5632, 2048, 1);
  const words = new Uint16Array(gaussian.length);
  const bits = new Uint32Array(gaussian.buffer);
  for (let i = 0; i < words.length; i++) words[i] = (bits[i] + 0x7fff + ((bits[i] >>> 16) & 1)) >>> 16;
  const pool = new Uint8Array(words.buffer);
  let bytes = 0;
  let largest = 0;
  const tensors = [...expectedTensors(parseConfig(config))].map(([name, { shape }]) => {
    const byteLength = 2 * shape.reduce((n, d) => n * d, 1);
    bytes += byteLength;
    largest = Math.max(largest, byteLength);
    return { name, dtype: 'BF16', shape: [...shape], byteLength, data: async () => pool.subarray(0, byteLength) };
  });
  await writeSafetensors({ path: path.join(folder, 'model.safetensors'), tensors, metadata: { format: 'pt' } });
  return { model: folder, bytes, largest };
}

/** Runs the command line and watches the peak of its resident memory. */
async function runCommand(args: string[]) {
  const child = spawn(process.execPath, [path.join(root, 'bin/subbyte.mjs'), ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let stdout = '';
  child.stdout.on('data', (data) => {
    stdout += data;
  });
  let peak = 0;
  const watch = setInterval(async () => {
    const status = await readFile(`/proc/${child.pid}/status`, 'utf8').catch(() => '');
    peak = Math.max(peak, 1024 * Number(/VmHWM:\s+(\d+)/.exec(status)?.[1] ?? 0));
  }, 20);
  const code = await new Promise((resolve) => child.on('close', resolve));
  clearInterval(watch);
  if (code !== 0) throw new Error(`bench: subbyte ${args.join(' ')} ended with ${code}`);
  return { document: JSON.parse(stdout), peak };
}

/** Seconds to read the input and to write as many bytes as the output has, in 8 MB pieces. */
async function plainCopy(input: string, outputBytes: number, scratch: string): Promise<number> {
  const piece = Buffer.alloc(8e6);
  const started = performance.now();
  const from = await open(input);
  const to = await open(scratch, 'w');
  const size = (await stat(input)).size;
  let written = 0;
  for (let at = 0; at < size; at += piece.length) {
    await from.read(piece, 0, piece.length, at);
    const share = Math.min(outputBytes - written, Math.ceil((piece.length * outputBytes) / size));
    written += (await to.write(piece, 0, share)).bytesWritten;
  }
  await to.sync();
  await from.close();
  await to.close();
  await rm(scratch);
  return (performance.now() - started) / 1000;
}

async function check(model: string, output: string, name: string): Promise<string> {
  const source = await openCheckpoint(model);
  const written = await openCheckpoint(output);
  try {
    const [from, to] = [await openWeights(source), await openWeights(written)];
    const asked = parseFormat(name);
    const format =
      asked.kind === 'ggml'
        ? asked
        : safetensorsOutput.formatInFile({ plan: { formats: new Map([['x', asked]]) } } as unknown as OutputJob, 'x');
    for (const tensor of ['self_attn.k_proj', 'mlp.down_proj'].map((n) => `model.layers.0.${n}.weight`)) {
      const meant = await referenceQuantizer().quantize(await from.load(tensor), format ?? asked, {
        ...{ seed: 0, stream: 0, name: tensor },
      });
      const [a, b] = [denseF32(meant), denseF32(await to.load(tensor))];
      if (a.some((value, i) => value !== b[i])) return `${tensor} differs`;
    }
    return 'equal';
  } finally {
    await source.close();
    await written.close();
  }
}
