// Matrix products through WebGPU against @jax-js/jax and ONNX Runtime Web, in one process on one adapter.
//
//   npm run bench -- webgpu-peers [--sizes 1024,2048,4096] [--json] [--only REGEX] [--batch N] [--backend null] [--no-robustness]
//
// Everybody multiplies x [M, K] and w [N, K] with the same values: M = N = K, and one row of x for generation. The clock
// of the host is read around batches of queued products; contenders take turns and the fastest batch of each counts.
// Every result is compared with float64 at sampled places; ONNX Runtime's int8 path, which rounds activations, against
// the unrounded ones. A contender that cannot run here is listed with what it said.
// Install the peers with `npm ci` in bench/. A machine without a registry needs of them only jax-js's dist/*.js and
// onnxruntime-web's ort.jspi.bundle.min.mjs and ort-wasm-simd-threaded.jspi.{mjs,wasm}: 18 MB.

import { isSoftware } from '../src/backends/webgpu/adapters.ts';
import { renderTable } from '../src/cli/table.ts';
import type { Quantized } from '../src/formats/format.ts';
import { dequantize, quantize } from '../src/formats/quantize.ts';
import { parseFormat } from '../src/formats/registry.ts';
import { qtensor, tensorF32 } from '../src/tensor/tensor.ts';
import type { BenchOptions } from './run.ts';
import {
  type Contender,
  jaxProduct,
  ortMatMul,
  ortNBits,
  type Product,
  subbyteProduct,
  tensorCoreProduct,
} from './webgpu-contenders.ts';
import { installWebgpu } from './webgpu-shim.ts';

interface Entry {
  readonly name: string;
  readonly open: () => Promise<Contender>;
  /** Weights that the result is compared with. */
  readonly w: Float32Array;
  readonly tolerance: number;
}

interface PeerFigure {
  readonly kind: string;
  readonly shape: string;
  readonly contender: string;
  readonly milliseconds?: number;
  /** 10^12 multiplications and additions a second. */
  readonly teraflops?: number;
  /** Time of the fastest peer over the time of this one. */
  readonly overBestPeer?: number;
  readonly error?: number;
  /** Why there is no figure. */
  readonly missing?: string;
}

export async function run({ quick, gpu: options }: BenchOptions) {
  const robustness = options.robustness ?? true;
  const dry = options.backend === 'null';
  const gpu = await installWebgpu({ robustness, backend: options.backend });
  const adapter = await gpu.requestAdapter({ powerPreference: 'high-performance' });
  if (!adapter) throw new Error('webgpu-peers: no graphics adapter');
  const { info } = adapter;
  const card = `${info.description || info.device} (${info.vendor} ${info.architecture})`;
  console.error(`${card}, robustness ${robustness ? 'on' : 'off'}`);
  const software = isSoftware(info);
  const sizes = options.sizes ?? (quick ? '128' : '1024,2048,4096');
  const figures: PeerFigure[] = [];
  for (const size of sizes.split(',').map(Number))
    for (const [kind, entries, rows] of [
      ['f32', denseEntries, size],
      ['f16', halfEntries, size],
      ['4-bit weights', fourBitEntries, size],
      ['4-bit weights', fourBitEntries, 1],
    ] as const) {
      const batch = Number(options.batch ?? (software ? 1 : rows === 1 ? 64 : 8));
      const x = operand(rows * size, 1);
      const product = { M: rows, N: size, K: size, x, w: operand(size * size, 2), batch };
      const wanted = entries(product).filter(({ name }) => new RegExp(options.only ?? '').test(name));
      const busy = dry ? undefined : software ? 0 : 2000;
      figures.push(...(await compare(kind, wanted, product, busy)));
    }
  print(figures);
  if (figures.some(({ missing }) => missing?.startsWith('wrong'))) process.exitCode = 1;
  return { card, robustness, figures };
}

/** Multiples of 1/64 from -1 to 1: f16 holds them exactly. */
function operand(count: number, seed: number): Float32Array {
  let state = seed;
  const next = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return ((state >>> 25) - 64) / 64;
  };
  return Float32Array.from({ length: count }, next);
}

function denseEntries(product: Product): Entry[] {
  const { N, K, w } = product;
  const common = { w, tolerance: 1e-4 };
  return [
    { name: 'subbyte f32', open: () => subbyteProduct('subbyte f32', product, tensorF32([N, K], w)), ...common },
    { name: 'jax-js f32', open: () => jaxProduct('f32', product), ...common },
    { name: 'onnxruntime-web MatMul f32', open: () => ortMatMul('f32', product), ...common },
  ];
}

function halfEntries(product: Product): Entry[] {
  const { N, K, w } = product;
  const weight = qtensor([N, K], quantize(w, N, K, parseFormat('f16')));
  // results, and with some the sums on the way, in f16
  const common = { w, tolerance: 0.1 };
  return [
    {
      name: 'subbyte f16 weights',
      open: () => subbyteProduct('subbyte f16 weights', product, weight),
      w,
      tolerance: 1e-4,
    },
    { name: 'subbyte f16 × f16, tensor cores', open: () => tensorCoreProduct(product), w, tolerance: 1e-4 },
    { name: 'jax-js f16', open: () => jaxProduct('f16', product), ...common },
    { name: 'onnxruntime-web MatMul f16', open: () => ortMatMul('f16', product), ...common },
  ];
}

function fourBitEntries(product: Product): Entry[] {
  const { N, K, w } = product;
  const packed = (format: string) => quantize(w, N, K, parseFormat(format));
  const own = (format: string): Entry => {
    const q = packed(format);
    const name = `subbyte ${format}`;
    return {
      name,
      open: () => subbyteProduct(name, product, qtensor([N, K], q)),
      w: dequantize(q),
      tolerance: 1e-4,
    };
  };
  const int4 = packed('int4-g32');
  const weight = nbits(int4);
  const values = dequantize(int4);
  return [
    own('int4-g32'),
    own('mxfp4'),
    ...(['f32', 'f16'] as const).flatMap((type) =>
      [false, true].map((int8): Entry => {
        const name = `onnxruntime-web MatMulNBits ${type}${int8 ? ', int8 activations' : ''}`;
        const tolerance = int8 || type === 'f16' ? 0.1 : 1e-3;
        return { name, open: () => ortNBits(type, product, weight, int8), w: values, tolerance };
      }),
    ),
  ];
}

/** Codes with their zero at 8 and f32 scales, from two's complement. */
function nbits(q: Quantized) {
  const ones = dequantize({ ...q, codes: new Uint8Array(q.codes.length).fill(0x11) });
  const scales = Float32Array.from({ length: (q.rows * q.cols) / 32 }, (_, i) => ones[32 * i]);
  return { codes: q.codes.map((byte) => byte ^ 0x88), scales };
}

/** What a library said, without the frames of C++ around it. */
function reasonOf(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return (text.match(/Status Message: \S+ \w+ (.*)/)?.[1] ?? text).split('\n')[0].slice(0, 160);
}

/** Times the entries by turns for `busy` milliseconds, and checks their results; without it they only run. */
async function compare(
  kind: string,
  entries: readonly Entry[],
  product: Product,
  busy: number | undefined,
): Promise<PeerFigure[]> {
  const { M, N, K, batch } = product;
  const shape = `${M} × ${N} × ${K}`;
  const running: { entry: Entry; contender: Contender; best: number }[] = [];
  const missing: PeerFigure[] = [];
  for (const entry of entries) {
    try {
      const contender = await entry.open();
      await contender.run();
      running.push({ entry, contender, best: Infinity });
    } catch (error) {
      missing.push({ kind, shape, contender: entry.name, missing: reasonOf(error) });
    }
  }
  if (busy === undefined) {
    for (const { contender } of running) contender.dispose();
    return [...running.map(({ entry }) => ({ kind, shape, contender: entry.name })), ...missing];
  }
  const start = performance.now();
  for (let turn = 0; turn < 3 || (turn < 500 && performance.now() - start < busy); turn++)
    for (const one of running) {
      const before = performance.now();
      await one.contender.run();
      one.best = Math.min(one.best, (performance.now() - before) / batch);
    }
  const peers = running.filter(({ entry }) => !entry.name.startsWith('subbyte')).map(({ best }) => best);
  const found: PeerFigure[] = [];
  for (const { entry, contender, best } of running) {
    const error = sampledError(await contender.read(), product, entry.w);
    contender.dispose();
    found.push({
      kind,
      shape,
      contender: entry.name,
      milliseconds: best,
      teraflops: (2 * M * N * K) / best / 1e9,
      overBestPeer: Math.min(...peers) / best,
      error,
      ...(error < entry.tolerance ? {} : { missing: `wrong: error ${error.toExponential(1)}` }),
    });
  }
  return [...found, ...missing];
}

/** Largest error of 64 sampled results, relative to √K / 3, the root mean square of the products of such numbers. */
function sampledError(y: ArrayLike<number>, { M, N, K, x }: Product, w: Float32Array): number {
  let worst = 0;
  for (let s = 0; s < 64; s++) {
    const [m, n] = [(s * 7919) % M, (s * 104729 + 13) % N];
    let sum = 0;
    for (let k = 0; k < K; k++) sum += x[m * K + k] * w[n * K + k];
    worst = Math.max(worst, Math.abs(y[m * N + n] - sum) / (Math.sqrt(K) / 3));
  }
  return Number.isNaN(worst) ? Infinity : worst;
}

function print(list: readonly PeerFigure[]): void {
  const right = { align: 'right' as const };
  console.error(
    renderTable(
      [
        { title: 'product' },
        { title: 'M × N × K' },
        { title: 'contender' },
        { title: 'µs', ...right },
        { title: 'TFLOP/s', ...right },
        { title: 'best peer / it', ...right },
        { title: 'error', ...right },
        { title: '' },
      ],
      list.map((f) => [
        f.kind,
        f.shape,
        f.contender,
        f.milliseconds === undefined ? '' : (1000 * f.milliseconds).toFixed(1),
        f.teraflops === undefined ? '' : f.teraflops.toPrecision(3),
        f.overBestPeer === undefined || !Number.isFinite(f.overBestPeer) ? '' : f.overBestPeer.toFixed(2),
        f.error === undefined ? '' : f.error.toExponential(1),
        f.missing ?? '',
      ]),
    ),
  );
}
