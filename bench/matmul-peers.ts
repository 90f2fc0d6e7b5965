// The peers of the matrix-product comparison: @jax-js/jax on its wasm backend and ONNX Runtime, installed in bench/.
//
// jax-js uses threads where the global Worker exists, which in Node it does not; for the figure on all cores it gets
// one made of worker threads. ONNX Runtime is native code with AVX-512 and the like where the CPU has them.

import { resolveObjectURL } from 'node:buffer';
import { createRequire } from 'node:module';
import { Worker as NodeWorker } from 'node:worker_threads';
import { type OnnxNode, type OnnxTensor, oneNodeModel } from './onnx-model.ts';

export interface Contender {
  name: string;
  /** One product; resolves when its result exists. */
  run(): Promise<void>;
  /** The last result, row-major. */
  read(): Promise<Float32Array>;
}

type Listener = (event: { data: unknown }) => void;

/** As much of the browser's Worker as jax-js uses. */
class BlobWorker {
  onmessage: Listener | undefined;
  onerror: ((event: { message: string }) => void) | undefined;
  readonly #worker: Promise<NodeWorker>;

  constructor(url: string) {
    this.#worker = this.#start(url);
  }

  async #start(url: string): Promise<NodeWorker> {
    const source = await resolveObjectURL(url)!.text();
    const shim = `const { parentPort } = require('node:worker_threads');
      globalThis.self = globalThis;
      globalThis.postMessage = (message) => parentPort.postMessage(message);
      parentPort.on('message', (data) => self.onmessage({ data }));`;
    const worker = new NodeWorker(`${shim}\n${source}`, { eval: true });
    worker.on('message', (data) => this.onmessage?.({ data }));
    worker.on('error', (error) => this.onerror?.({ message: String(error) }));
    return worker;
  }

  postMessage(message: unknown): void {
    void this.#worker.then((worker) => worker.postMessage(message));
  }
}

interface JaxArray {
  ref: JaxArray;
  dispose(): void;
  data(): Promise<ArrayLike<number>>;
}

interface Jax {
  init(device: string): Promise<unknown>;
  defaultDevice(device: string): void;
  blockUntilReady(x: JaxArray): Promise<unknown>;
  numpy: {
    array(data: Float32Array, options: { shape: number[] }): JaxArray;
    matmul(a: JaxArray, b: JaxArray): JaxArray;
  };
}

/** x [n, n] × w [n, n] by jax-js, w stored [K, N]. */
export async function jaxProduct(n: number, x: Float32Array, w: Float32Array, threads: number): Promise<Contender> {
  if (threads > 1) Object.assign(globalThis, { Worker: BlobWorker });
  const jax: Jax = await import(
    createRequire(import.meta.url)
      .resolve('@jax-js/jax')
      .replace(/index\.cjs$/, 'index.js')
  );
  await jax.init('wasm');
  jax.defaultDevice('wasm');
  const a = jax.numpy.array(x, { shape: [n, n] });
  const b = jax.numpy.array(w, { shape: [n, n] });
  let last: JaxArray | undefined;
  return {
    name: 'jax-js f32',
    async run() {
      last?.dispose();
      last = jax.numpy.matmul(a.ref, b.ref);
      await jax.blockUntilReady(last);
    },
    read: async () => Float32Array.from(await last!.ref.data()),
  };
}

interface OrtTensor {
  data: Float32Array;
}

interface OnnxRuntime {
  InferenceSession: {
    create(model: Uint8Array, options: object): Promise<{ run(feeds: object): Promise<Record<string, OrtTensor>> }>;
  };
  Tensor: new (type: string, data: Float32Array, shape: number[]) => OrtTensor;
}

const bytesOf = (a: Float32Array) => new Uint8Array(a.buffer, a.byteOffset, a.byteLength);

async function ortProduct(
  name: string,
  n: number,
  x: Float32Array,
  threads: number,
  node: OnnxNode,
  constants: OnnxTensor[],
): Promise<Contender> {
  const ort = createRequire(import.meta.url)('onnxruntime-node') as OnnxRuntime;
  const options = { intraOpNumThreads: threads, interOpNumThreads: 1, executionProviders: ['cpu'] };
  const session = await ort.InferenceSession.create(oneNodeModel(node, [n, n], [n, n], constants), options);
  const feeds = { x: new ort.Tensor('float32', x, [n, n]) };
  let last: OrtTensor | undefined;
  return {
    name,
    async run() {
      last = (await session.run(feeds)).y;
    },
    read: async () => last!.data,
  };
}

/** ONNX Runtime's MatMul, w stored [K, N]. */
export const ortF32 = (n: number, x: Float32Array, w: Float32Array, threads: number): Promise<Contender> =>
  ortProduct('onnxruntime MatMul', n, x, threads, { op: 'MatMul', domain: '', attributes: {} }, [
    { name: 'w', type: 1, shape: [n, n], data: bytesOf(w) },
  ]);

/**
 * ONNX Runtime's MatMulNBits with int8 activations (accuracy level 4): codes [N, K] unsigned with zero at half range,
 * scales [N, K / 32].
 */
export function ortNBits(
  n: number,
  x: Float32Array,
  bits: 4 | 8,
  codes: Uint8Array,
  scales: Float32Array,
  threads: number,
): Promise<Contender> {
  const attributes = { K: n, N: n, bits, block_size: 32, accuracy_level: 4 };
  const node = { op: 'MatMulNBits', domain: 'com.microsoft', attributes };
  return ortProduct(`onnxruntime MatMulNBits ${bits}-bit`, n, x, threads, node, [
    { name: 'w', type: 2, shape: [n, n / 32, 4 * bits], data: codes },
    { name: 'scales', type: 1, shape: [(n * n) / 32], data: bytesOf(scales) },
  ]);
}
