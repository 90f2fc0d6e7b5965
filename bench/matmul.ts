// Matrix products n × n × n against @jax-js/jax (wasm) and ONNX Runtime, on one core and on all.
//
// One process for each size and number of threads; in it all contenders take turns, and the figure of each is its
// fastest turn, because other work on the machine only ever slows a turn down. On one thread the CPU time of the process
// is counted, on several the time of the clock. Rates count 2·n³ operations. Every result is checked
// in the run: sampled elements against float64 sums of the very values multiplied (for ONNX Runtime's int8 path, which
// rounds activations itself, against the unrounded ones).
//
// Ours: f32 × f32 (weights [N, K], as linear layers have them); both operands packed: int8 a row × int8 a row, and
// MXFP4 × MXFP4; and the same from f32 activations, quantized in the run.
//
// `npm run bench -- matmul [--quick]`, or `node bench/matmul.ts [--quick] [--json] [--sizes 512,1024] [--threads 1]`.

import { spawnSync } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { createWasmBackend, type WasmBackend } from '../src/backends/wasm/backend.ts';
import { encoders } from '../src/backends/wasm/encoders.ts';
import type { Quantized } from '../src/formats/format.ts';
import { dequantize, quantize } from '../src/formats/quantize.ts';
import { parseFormat } from '../src/formats/registry.ts';
import { matmul } from '../src/graph/ops/matmul.ts';
import { quantize as quantizeOp } from '../src/graph/ops/quantize.ts';
import { trace } from '../src/graph/trace.ts';
import { typeOfTensor } from '../src/graph/value-type.ts';
import { type AnyTensor, qtensor, tensorF32 } from '../src/tensor/tensor.ts';
import { type Contender, jaxProduct, ortF32, ortNBits } from './matmul-peers.ts';

export interface MatmulFigure {
  size: number;
  threads: number;
  contender: string;
  milliseconds: number;
  /** 2·n³ / time. */
  gops: number;
  /** Our f32, and jax-js, in the same run. */
  overOwnF32: number;
  overJax: number | undefined;
  /** Largest sampled error relative to the root mean square of the result. */
  error: number;
}

const distinctRows = 256;

/** Standard normal numbers; rows repeat after 256, which keeps the setup short. */
function gaussianMatrix(n: number, seed: number): Float32Array {
  let state = seed;
  const random = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state + 0.5) / 2 ** 32;
  };
  const rows = Math.min(n, distinctRows);
  const out = new Float32Array(n * n);
  for (let i = 0; i < rows * n; i++) out[i] = Math.sqrt(-2 * Math.log(random())) * Math.cos(2 * Math.PI * random());
  for (let r = rows; r < n; r++) out.copyWithin(r * n, (r % rows) * n, (r % rows) * n + n);
  return out;
}

/** Quantizes the distinct rows and repeats the result. */
function quantizeMatrix(values: Float32Array, n: number, format: string): Quantized {
  const rows = Math.min(n, distinctRows);
  const q = quantize(values.subarray(0, rows * n), rows, n, parseFormat(format));
  const repeat = (part: Uint8Array) => {
    const out = new Uint8Array((part.length / rows) * n);
    for (let at = 0; at < out.length; at += part.length) out.set(part, at);
    return out;
  };
  return { ...q, rows: n, codes: repeat(q.codes), scales: repeat(q.scales) };
}

async function ownProduct(
  backend: WasmBackend,
  name: string,
  x: AnyTensor,
  w: AnyTensor,
  activations?: string,
): Promise<Contender> {
  const graph = trace((g) => {
    const a = g.param('x', typeOfTensor(x));
    const b = g.param('w', typeOfTensor(w));
    g.output('y', matmul(activations ? quantizeOp(a, parseFormat(activations)) : a, b, { transposeB: true }));
  });
  const params = new Map([
    ['x', await backend.upload(x)],
    ['w', await backend.upload(w)],
  ]);
  const executable = await backend.compile(graph, { params });
  return {
    name,
    run: async () => void (await executable.run()),
    read: async () => (await executable.read('y')).data as Float32Array,
  };
}

interface Entry {
  contender: Contender;
  /** Values [N, K] and [M, K] whose product is expected, and how far the result may be from it. */
  x: Float32Array;
  w: Float32Array;
  tolerance: number;
}

/** Largest error of 64 sampled elements, relative to √n, the root mean square of the products of normal numbers. */
function sampledError(result: Float32Array, n: number, x: Float32Array, w: Float32Array): number {
  let worst = 0;
  for (let s = 0; s < 64; s++) {
    const m = (s * 7919) % n;
    const c = (s * 104729 + 13) % n;
    let sum = 0;
    for (let k = 0; k < n; k++) sum += x[m * n + k]! * w[c * n + k]!;
    worst = Math.max(worst, Math.abs(result[m * n + c]! - sum) / Math.sqrt(n));
  }
  return worst;
}

/** Integer weights in ONNX Runtime's layout: unsigned codes, zero at half range, a scale for 32. */
function onnxWeights(w: Float32Array, n: number, bits: 4 | 8) {
  const q = quantizeMatrix(w, n, `int${bits}-g32`);
  const flip = bits === 4 ? 0x88 : 0x80;
  const scales = new Float32Array((n * n) / 32);
  const values = dequantize(q);
  const ones = { ...q, codes: new Uint8Array(q.codes.length).fill(bits === 4 ? 0x11 : 1) };
  const units = dequantize(ones);
  for (let i = 0; i < scales.length; i++) scales[i] = units[32 * i]!;
  return { codes: q.codes.map((byte) => byte ^ flip), scales, values };
}

async function entries(backend: WasmBackend, n: number, threads: number): Promise<Entry[]> {
  const x = gaussianMatrix(n, 1);
  const w = gaussianMatrix(n, 2);
  const transposed = new Float32Array(n * n);
  for (let r = 0; r < n; r++) for (let c = 0; c < n; c++) transposed[c * n + r] = w[r * n + c]!;
  const dense = tensorF32([n, n], x);
  const list: Entry[] = [
    { contender: await ownProduct(backend, 'f32', dense, tensorF32([n, n], w)), x, w, tolerance: 1e-4 },
  ];
  for (const [name, activation, weight] of [
    ['int8', 'int8-token', 'int8-channel'],
    ['mxfp4', 'mxfp4', 'mxfp4'],
  ] as const) {
    const qx = quantizeMatrix(x, n, activation);
    const qw = quantizeMatrix(w, n, weight);
    const values = { x: dequantize(qx), w: dequantize(qw), tolerance: 1e-4 };
    const [a, b] = [qtensor([n, n], qx), qtensor([n, n], qw)];
    list.push({ contender: await ownProduct(backend, `${name} × ${name}`, a, b), ...values });
    if (!encoders.has('quantize')) continue;
    const whole = `${name} × ${name}, quantizing x`;
    list.push({ contender: await ownProduct(backend, whole, dense, b, activation), ...values });
  }
  list.push({ contender: await jaxProduct(n, x, transposed, threads), x, w, tolerance: 1e-4 });
  list.push({ contender: await ortF32(n, x, transposed, threads), x, w, tolerance: 1e-4 });
  for (const bits of [8, 4] as const) {
    const { codes, scales, values } = onnxWeights(w, n, bits);
    const contender = await ortNBits(n, x, bits, codes, scales, threads);
    list.push({ contender, x, w: values, tolerance: 0.1 });
  }
  return list;
}

async function measure(n: number, threads: number, quick: boolean): Promise<MatmulFigure[]> {
  const backend = await createWasmBackend({ threads });
  const list = await entries(backend, n, threads);
  const best = list.map(() => Infinity);
  const now = () => {
    if (threads > 1) return performance.now();
    const { user, system } = process.cpuUsage();
    return (user + system) / 1e3;
  };
  const turns = quick ? 5 : Math.min(Math.max(Math.ceil(2e10 / n ** 3), 2), 60);
  for (let turn = n < 2048 ? -2 : -1; turn < turns; turn++) {
    for (const [i, { contender }] of list.entries()) {
      const start = now();
      await contender.run();
      // The first turns are for the compilers.
      if (turn >= 0) best[i] = Math.min(best[i]!, now() - start);
    }
  }
  const figures: MatmulFigure[] = [];
  const jax = list.findIndex(({ contender }) => contender.name.startsWith('jax'));
  for (const [i, { contender, x, w, tolerance }] of list.entries()) {
    const error = sampledError(await contender.read(), n, x, w);
    if (!(error < tolerance)) throw new Error(`${contender.name} at ${n}: wrong result, error ${error}`);
    figures.push({
      size: n,
      threads,
      contender: contender.name,
      milliseconds: best[i]!,
      gops: (2 * n ** 3) / best[i]! / 1e6,
      overOwnF32: best[0]! / best[i]!,
      overJax: best[jax]! / best[i]!,
      error,
    });
  }
  backend.dispose();
  return figures;
}

function print(figures: readonly MatmulFigure[]): void {
  for (const f of figures) {
    const columns = [
      String(f.size).padStart(5),
      `${f.threads}`.padStart(3),
      f.contender.padEnd(34),
      `${f.milliseconds.toFixed(1)} ms`.padStart(11),
      `${f.gops.toFixed(1)} GOP/s`.padStart(13),
      `${f.overOwnF32.toFixed(2)}× own f32`.padStart(15),
      `${f.overJax?.toFixed(2)}× jax-js`.padStart(15),
      f.error.toExponential(1).padStart(9),
    ];
    console.error(columns.join(' '));
  }
}

/** Runs every size in a process of its own for each number of threads, prints a table and returns the figures. */
export async function run({
  quick = false,
  sizes = quick ? [512] : [512, 1024, 2048, 4096],
  threads = [1, availableParallelism()],
}: {
  quick?: boolean;
  json?: boolean;
  sizes?: number[];
  threads?: number[];
}): Promise<MatmulFigure[]> {
  const figures: MatmulFigure[] = [];
  console.error(' size thr contender                                 best         rate');
  for (const t of new Set(threads)) {
    for (const n of sizes) {
      const args = [fileURLToPath(import.meta.url), '--child', '--sizes', String(n), '--threads', String(t)];
      const child = spawnSync(process.execPath, quick ? [...args, '--quick'] : args, {
        encoding: 'utf8',
        maxBuffer: 2 ** 24,
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      if (child.status !== 0) throw new Error(`matmul: the run at ${n} on ${t} threads ended with ${child.status}`);
      const part: MatmulFigure[] = JSON.parse(child.stdout.trim().split('\n').at(-1)!);
      print(part);
      figures.push(...part);
    }
  }
  return figures;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { values } = parseArgs({
    options: {
      quick: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
      child: { type: 'boolean', default: false },
      sizes: { type: 'string' },
      threads: { type: 'string' },
    },
  });
  const sizes = values.sizes?.split(',').map(Number);
  const threads = values.threads?.split(',').map(Number);
  if (values.child) console.log(JSON.stringify(await measure(sizes![0]!, threads![0]!, values.quick)));
  else {
    const figures = await run({ quick: values.quick, sizes, threads });
    if (values.json) console.log(JSON.stringify(figures));
  }
  process.exit(0);
}
