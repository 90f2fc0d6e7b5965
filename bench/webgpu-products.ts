// Families of matrix products: dense, packed weights, both operands packed, one row.

import type { KernelSource } from '../src/backends/webgpu/kernel-source.ts';
import { quantizedBytes } from '../src/formats/format.ts';
import { matmul } from '../src/graph/ops/matmul.ts';
import { dequantize } from '../src/graph/ops/quantize.ts';
import type { AnyTensor } from '../src/tensor/tensor.ts';
import { dense, firstColumns, packed } from './webgpu-data.ts';
import type { Family, Job, Version } from './webgpu-ladder.ts';

const tensorCores = 'chromium-experimental-subgroup-matrix';
const dp4a = 'packed_4x8_integer_dot_product';

/** x · wᵀ, a thread for each result. */
const oneThreadEach = (M: number, N: number, K: number): KernelSource => ({
  workgroups: [Math.ceil(N / 16), Math.ceil(M / 16), 1],
  code: `@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> w: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(16, 16) fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x >= ${N}u || id.y >= ${M}u) { return; }
  var sum = 0.0;
  for (var k = 0u; k < ${K}u; k++) { sum += x[id.y * ${K}u + k] * w[id.x * ${K}u + k]; }
  y[id.y * ${N}u + id.x] = sum;
}`,
});

const linear = (x: AnyTensor, w: AnyTensor): Job => ({
  params: { x, w },
  body: ({ x, w }) => matmul(x, w, { transposeB: true }),
});

/** Every layout that training needs, on f32. */
function f32Family(n: number): Family {
  const w = dense([n, n], 2);
  const layout =
    (transposeA: boolean, transposeB: boolean) =>
    (rows: number): Job => ({
      params: { x: transposeA ? firstColumns(dense([n, n], 1), rows) : dense([rows, n], 1), w },
      body: ({ x, w }) => matmul(x, w, { transposeA, transposeB }),
    });
  return {
    name: `matmul f32 ${n}³`,
    unit: 'FLOP/s',
    work: 2 * n ** 3,
    rows: n,
    checked: 4,
    tolerance: 2e-5,
    anchor: `f32-${n}`,
    versions: [
      { name: 'a thread for each result', job: layout(false, true), kernel: oneThreadEach(n, n, n) },
      { name: 'graph, NT', job: layout(false, true) },
      { name: 'graph, NN', job: layout(false, false) },
      { name: 'graph, TN', job: layout(true, false) },
    ],
  };
}

/** f32 activations with weights in few bits. */
function weightFamily(n: number): Family {
  const job = (format: string) => {
    const w = packed([n, n], 2, format);
    return (rows: number) => linear(dense([rows, n], 1), w);
  };
  const twoSteps = (format: string) => {
    const w = packed([n, n], 2, format);
    return (rows: number): Job => ({
      params: { x: dense([rows, n], 1), w },
      body: ({ x, w }) => matmul(x, dequantize(w), { transposeB: true }),
    });
  };
  const formats = ['f16', 'bf16', 'mxfp4', 'nvfp4', 'int4-g128', 'mxfp8-e4m3', 'int8-channel'];
  return {
    name: `matmul, packed weights ${n}³`,
    unit: 'FLOP/s',
    work: 2 * n ** 3,
    rows: n,
    checked: 4,
    // f16 tensor cores round the activations
    tolerance: 1e-3,
    anchor: `f16-${n}`,
    versions: [
      { name: 'mxfp4, dequantized before', job: twoSteps('mxfp4') },
      { name: 'mxfp4, without subgroup matrices', job: job('mxfp4'), without: [tensorCores] },
      ...formats.map((format): Version => ({ name: format, job: job(format) })),
    ],
  };
}

/** Exact products of integers and FP4. */
function integerFamily(n: number): Family {
  const pair = (left: string, right: string) => {
    const w = packed([n, n], 2, right);
    return (rows: number) => linear(packed([rows, n], 1, left), w);
  };
  const dequantized = (left: string, right: string) => {
    const w = packed([n, n], 2, right);
    return (rows: number): Job => ({
      params: { x: packed([rows, n], 1, left), w },
      body: ({ x, w }) => matmul(dequantize(x), dequantize(w), { transposeB: true }),
    });
  };
  return {
    name: `matmul, both packed ${n}³`,
    unit: 'FLOP/s',
    work: 2 * n ** 3,
    rows: n,
    checked: 4,
    tolerance: 2e-6,
    anchor: `int8-${n}`,
    versions: [
      { name: 'mxfp4 × mxfp4, dequantized before', job: dequantized('mxfp4', 'mxfp4') },
      { name: 'mxfp4 × mxfp4, no dp4a, no matrices', job: pair('mxfp4', 'mxfp4'), without: [dp4a, tensorCores] },
      { name: 'mxfp4 × mxfp4, dp4a', job: pair('mxfp4', 'mxfp4'), without: [tensorCores] },
      ...(
        [
          ['mxfp4', 'mxfp4'],
          ['nvfp4', 'nvfp4'],
          ['int8-token', 'int8-channel'],
          ['int8-token', 'int4-channel'],
        ] as const
      ).map(([left, right]) => ({ name: `${left} × ${right}`, job: pair(left, right) })),
    ],
  };
}

/** One row, as generation needs it: bytes of the weight. */
function vectorFamily(n: number): Family {
  const [N, K] = [4 * n, 2 * n];
  const job = (format?: string) => (rows: number) =>
    linear(dense([1, K], 1), format ? packed([rows, K], 2, format) : dense([rows, K], 2));
  const version = (name: string, format?: string, without?: readonly string[]): Version => ({
    name,
    job: job(format),
    without,
    work: format ? quantizedBytes(packed([1, K], 2, format).data) * N : 4 * N * K,
  });
  return {
    name: `matrix-vector ${N} × ${K}`,
    unit: 'B/s',
    work: 4 * N * K,
    rows: N,
    checked: 16,
    tolerance: 1e-5,
    anchor: 'copy',
    versions: [
      version('f32'),
      version('mxfp4, without subgroups', 'mxfp4', ['subgroups', 'subgroup-size-control', tensorCores]),
      ...['f16', 'mxfp4', 'nvfp4', 'int4-g128', 'q4_0', 'int8-channel'].map((format) => version(format, format)),
    ],
  };
}

/** `n`: rows and columns. */
export const productFamilies = (n: number): (() => Family)[] => [
  () => f32Family(n),
  () => weightFamily(n),
  () => integerFamily(n),
  () => vectorFamily(n),
];
