// Who takes part in the comparison of matrix products through WebGPU: subbyte, @jax-js/jax and ONNX Runtime Web.
//
// All three run in Node on one Dawn instance (webgpu-shim.ts). Operands lie on the GPU before the clock starts. A batch
// is a number of products that are queued one after another and waited for once, so that the way to the host and back is
// paid once a batch by everybody. ONNX Runtime's build with JavaScript promise integration is used: a third of the size
// of the others, and Node 24 has the integration.

import { createWebgpuBackend } from '../src/backends/webgpu/backend.ts';
import { bufferUsage } from '../src/backends/webgpu/constants.ts';
import { fragmentsOf } from '../src/backends/webgpu/fragments.ts';
import { subgroupMatmul } from '../src/backends/webgpu/kernels/matmul-subgroup-source.ts';
import { largestTile } from '../src/backends/webgpu/kernels/matmul-tensor-cores.ts';
import { matmul } from '../src/graph/ops/matmul.ts';
import { trace } from '../src/graph/trace.ts';
import { f32, typeOfTensor } from '../src/graph/value-type.ts';
import { type AnyTensor, tensorF32 } from '../src/tensor/tensor.ts';
import { type OnnxNode, type OnnxTensor, oneNodeModel } from './onnx-model.ts';
import { readBytes } from './webgpu-ladder.ts';

/** x [M, K] and w [N, K], both in f32 with values that f16 holds exactly. */
export interface Product {
  readonly M: number;
  readonly N: number;
  readonly K: number;
  readonly x: Float32Array;
  readonly w: Float32Array;
  /** Products in a batch. */
  readonly batch: number;
}

export interface Contender {
  readonly name: string;
  /** Queues a batch and waits until the GPU has done it. */
  run(): Promise<void>;
  /** The last product [M, N]. */
  read(): Promise<ArrayLike<number>>;
  dispose(): void;
}

/** subbyte's own product; `weight` is w as it is stored. */
export async function subbyteProduct(name: string, { M, K, x, batch }: Product, weight: AnyTensor): Promise<Contender> {
  const backend = await createWebgpuBackend();
  const graph = trace((g) => {
    const a = g.param('x', f32([M, K]));
    const w = g.param('w', typeOfTensor(weight));
    for (let i = 0; i < batch; i++) g.output(`y${i}`, matmul(a, w, { transposeB: true }));
  });
  const params = new Map([
    ['x', await backend.upload(tensorF32([M, K], x))],
    ['w', await backend.upload(weight)],
  ]);
  const executable = await backend.compile(graph, { params });
  return {
    name,
    run: async () => void (await executable.run()),
    read: async () => (await executable.read(`y${batch - 1}`)).data,
    dispose() {
      executable.dispose();
      for (const buffer of params.values()) buffer.dispose();
      backend.dispose();
    },
  };
}

const lines = { storage: 'f16', contiguous: 'k' } as const;

/** subbyte's kernel on subgroup matrices by itself: f16 operands, f32 result. Throws where the adapter has none. */
export async function tensorCoreProduct({ M, N, K, x, w, batch }: Product): Promise<Contender> {
  const backend = await createWebgpuBackend();
  const { device } = backend.gpu;
  const fragments = fragmentsOf(backend.gpu);
  if (!fragments) {
    backend.dispose();
    throw new Error('no f16 subgroup matrices that kernels use');
  }
  const { code, workgroups } = subgroupMatmul({ M, N, K, a: lines, b: lines, tile: largestTile(fragments) });
  const usage = bufferUsage.storage | bufferUsage.copyTarget | bufferUsage.copySource;
  const make = (bytes: number) => device.createBuffer({ size: bytes, usage });
  const buffers = [x, w].map((values) => {
    const data = float16(values);
    const buffer = make(data.byteLength);
    device.queue.writeBuffer(buffer, 0, data);
    return buffer;
  });
  buffers.push(make(4 * M * N));
  const module = device.createShaderModule({ code });
  const pipeline = await device.createComputePipelineAsync({ layout: 'auto', compute: { module } });
  const entries = buffers.map((buffer, binding) => ({ binding, resource: { buffer } }));
  const group = device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries });
  return {
    name: 'subbyte f16 × f16, tensor cores',
    async run() {
      const encoder = device.createCommandEncoder();
      const pass = encoder.beginComputePass();
      pass.setPipeline(pipeline);
      pass.setBindGroup(0, group);
      for (let i = 0; i < batch; i++) pass.dispatchWorkgroups(...workgroups);
      pass.end();
      device.queue.submit([encoder.finish()]);
      await device.queue.onSubmittedWorkDone();
    },
    read: async () => new Float32Array(await readBytes(device, buffers[2], 4 * M * N)),
    dispose: () => backend.dispose(),
  };
}

interface JaxArray {
  ref: JaxArray;
  dispose(): void;
  data(): Promise<ArrayLike<number>>;
}

interface Jax {
  init(device: string): Promise<readonly string[]>;
  defaultDevice(device: string): void;
  blockUntilReady(x: JaxArray): Promise<unknown>;
  numpy: {
    float16: unknown;
    float32: unknown;
    array(data: Float32Array, options: { shape: number[] }): JaxArray;
    matmul(a: JaxArray, b: JaxArray): JaxArray;
  };
}

const beside = (file: string) => new URL(`./node_modules/${file}`, import.meta.url);

/** x · wᵀ by jax-js, w stored [K, N] as its matmul takes it. */
export async function jaxProduct(type: 'f32' | 'f16', { M, N, K, x, w, batch }: Product): Promise<Contender> {
  const jax: Jax = await import(beside('@jax-js/jax/dist/index.js').href);
  if (!(await jax.init('webgpu')).includes('webgpu')) throw new Error('jax-js finds no WebGPU');
  jax.defaultDevice('webgpu');
  const array = (data: Float32Array, shape: number[]) => {
    const made = jax.numpy.array(data, { shape });
    if (type === 'f32') return made;
    return (made as JaxArray & { astype(t: unknown): JaxArray }).astype(jax.numpy.float16);
  };
  const [a, b] = [array(x, [M, K]), array(transposed(w, N, K), [K, N])];
  let last: JaxArray | undefined;
  return {
    name: `jax-js ${type}`,
    async run() {
      for (let i = 0; i < batch; i++) {
        last?.dispose();
        last = jax.numpy.matmul(a.ref, b.ref);
      }
      await jax.blockUntilReady(last!.ref);
    },
    read: () => last!.ref.data(),
    dispose() {
      for (const array of [last, a, b]) array?.dispose();
    },
  };
}

function transposed(w: Float32Array, N: number, K: number): Float32Array {
  const out = new Float32Array(N * K);
  for (let n = 0; n < N; n++) for (let k = 0; k < K; k++) out[k * N + n] = w[n * K + k];
  return out;
}

interface OrtTensor {
  getData(): Promise<ArrayLike<number>>;
  dispose(): void;
}

interface Ort {
  env: { wasm: { numThreads: number; wasmPaths: string }; webgpu: { device: Promise<GPUDevice> }; logLevel: string };
  InferenceSession: {
    create(model: Uint8Array, options: object): Promise<OrtSession>;
  };
  Tensor: { new (type: string, data: ArrayBufferView, shape: number[]): OrtTensor };
}

interface OrtSession {
  run(feeds: object): Promise<Record<string, OrtTensor>>;
  release(): Promise<void>;
}

const float16 = (values: Float32Array) => new Float16Array(values);

async function ortProduct(
  name: string,
  type: 'f32' | 'f16',
  { M, N, K, x, batch }: Product,
  node: OnnxNode,
  constants: readonly OnnxTensor[],
): Promise<Contender> {
  const ort: Ort = await import(beside('onnxruntime-web/dist/ort.jspi.bundle.min.mjs').href);
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmPaths = beside('onnxruntime-web/dist/').href;
  ort.env.logLevel = 'error';
  const gpu = { executionProviders: ['webgpu'], preferredOutputLocation: 'gpu-buffer' };
  const element = type === 'f32' ? 1 : 10;
  // A batch is one run of a model with that many nodes, which the optimizer would find to be the same.
  const model = oneNodeModel(node, [M, K], [M, N], constants, { type: element, copies: batch });
  const session = await ort.InferenceSession.create(model, { ...gpu, graphOptimizationLevel: 'disabled' });
  const device = await ort.env.webgpu.device;
  const onHost = type === 'f32' ? new ort.Tensor('float32', x, [M, K]) : new ort.Tensor('float16', float16(x), [M, K]);
  // An identity brings x to the GPU, where a run would bring it every time.
  const copy = { op: 'Identity', domain: '', attributes: {} };
  const identity = await ort.InferenceSession.create(oneNodeModel(copy, [M, K], [M, K], [], { type: element }), gpu);
  const feeds = { x: (await identity.run({ x: onHost })).y };
  let last: Record<string, OrtTensor> = {};
  const forget = () => {
    for (const y of Object.values(last)) y.dispose();
    last = {};
  };
  return {
    name,
    async run() {
      forget();
      last = await session.run(feeds);
      await device.queue.onSubmittedWorkDone();
    },
    read: () => last[`y${batch - 1}`].getData(),
    dispose() {
      forget();
      feeds.x.dispose();
      void session.release();
      void identity.release();
    },
  };
}

const bytesOf = (a: ArrayBufferView) => new Uint8Array(a.buffer, a.byteOffset, a.byteLength);

/** x · wᵀ by ONNX Runtime's MatMul, w stored [K, N]. */
export function ortMatMul(type: 'f32' | 'f16', product: Product): Promise<Contender> {
  const { N, K, w } = product;
  const stored = transposed(w, N, K);
  const data = bytesOf(type === 'f32' ? stored : float16(stored));
  const constant: OnnxTensor = { name: 'w', type: type === 'f32' ? 1 : 10, shape: [K, N], data };
  const node = { op: 'MatMul', domain: '', attributes: {} };
  return ortProduct(`onnxruntime-web MatMul ${type}`, type, product, node, [constant]);
}

/** 4-bit codes [N, K], unsigned with zero at 8, and a scale for 32 of them. */
export interface NBitsWeight {
  readonly codes: Uint8Array;
  readonly scales: Float32Array;
}

/** The same by MatMulNBits; with `int8` activations are rounded to 8 bits on the way (accuracy level 4). */
export function ortNBits(
  type: 'f32' | 'f16',
  product: Product,
  { codes, scales }: NBitsWeight,
  int8: boolean,
): Promise<Contender> {
  const { N, K } = product;
  const node = {
    op: 'MatMulNBits',
    domain: 'com.microsoft',
    attributes: { K, N, bits: 4, block_size: 32, accuracy_level: int8 ? 4 : 0 },
  };
  const scaleData = bytesOf(type === 'f32' ? scales : float16(scales));
  return ortProduct(`onnxruntime-web MatMulNBits ${type}${int8 ? ', int8 activations' : ''}`, type, product, node, [
    { name: 'w', type: 2, shape: [N, K / 32, 16], data: codes },
    { name: 'scales', type: type === 'f32' ? 1 : 10, shape: [(N * K) / 32], data: scaleData },
  ]);
}
