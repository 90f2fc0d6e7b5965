// Ops on packed values agree with the WASM backend: with its bits where kernels state the order of their f32 operations,
// within a tolerance where sums may be made in another order.

import { afterAll, describe, expect, it } from 'vitest';
import { createTestBackend, missingGpu } from '../../../test/support/software-gpu.ts';
import { parseFormat } from '../../formats/registry.ts';
import { expertMatmul } from '../../graph/ops/expert-matmul.ts';
import { hadamard } from '../../graph/ops/hadamard.ts';
import { matmul } from '../../graph/ops/matmul.ts';
import { dequantize, quantize } from '../../graph/ops/quantize.ts';
import { f32, i32, packed } from '../../graph/value-type.ts';
import { dense, packedTensor } from '../cases/common.ts';
import { differences, gaussian, type OpCase, runOpCase } from '../op-case.ts';
import { createWasmBackend } from '../wasm/backend.ts';
import type { WebgpuBackend } from './backend.ts';

const missing = missingGpu();
const backend = missing ? undefined : await createTestBackend();

/** Random signs of a block. */
const signsOf = (n: number) => gaussian(n, [n]).map(Math.sign);

const hadamards: OpCase[] = [1, 2, 4, 16, 64, 512, 1024, 2048, 8192].flatMap((n) => [
  dense(`hadamard of ${n}`, [[3, n < 64 ? 3 * n : n]], 'exact', (a) => hadamard(a, { blockSize: n })),
  dense(`hadamard of ${n} with signs`, [[2, 2 * n], [n]], 'exact', (a, s) => hadamard(a, { blockSize: n, signs: s }), {
    b: signsOf(n),
  }),
]);

/** Products of quantized activations [M, K] and weights [N, K]: exact block sums, and the stated order after them. */
const product = (weight: string, activation: string, M: number, N: number, K: number): OpCase => ({
  name: `${activation} × ${weight}, [${M}, ${N}, ${K}]`,
  tolerance: 'exact',
  build(g) {
    const w = g.param('w', packed([N, K], parseFormat(weight)));
    g.output('y', matmul(quantize(g.input('a', f32([M, K])), parseFormat(activation)), w, { transposeB: true }));
  },
  params: { w: packedTensor(2, [N, K], weight) },
  runs: [{ a: gaussian(1, [M, K]) }],
});

const products: OpCase[] = [
  product('mxfp4', 'mxfp4', 5, 7, 32),
  product('mxfp4', 'mxfp4', 67, 70, 256),
  product('mxfp4', 'mxfp6-e2m3', 3, 5, 64),
  product('nvfp4', 'nvfp4', 33, 65, 96),
  product('nvfp4', 'mxfp4', 3, 5, 64),
  product('int8-channel', 'int8-token', 9, 67, 37),
  product('int4-channel', 'int8-token', 9, 67, 37),
  product('int4-g32', 'int8-token', 9, 35, 160),
  product('int4-g64-asym', 'int8-token', 9, 35, 192),
  product('int8-g128', 'int8-g32', 3, 35, 256),
  product('int3-g8', 'int5-g16', 3, 5, 48),
  product('mxint8', 'mxint8', 3, 5, 64),
];

/** Few rows times a packed weight, whose codes and sums take the ways of both kinds of device. */
const few = (weight: string, M: number, N: number, K: number): OpCase => ({
  name: `${M} rows × ${weight}, [${N}, ${K}]`,
  tolerance: 3e-6,
  build(g) {
    const w = g.param('w', packed([N, K], parseFormat(weight)));
    g.output('y', matmul(g.input('a', f32([M, K])), w, { transposeB: true }));
  },
  params: { w: packedTensor(2, [N, K], weight) },
  runs: [{ a: gaussian(1, [M, K]) }],
});

/** Each row of x [3, K], or of x [3, 2, K], times the matrices of its two experts. */
const experts = (weight: string, shape: number[], N: number): OpCase => ({
  name: `expertMatmul ${weight}, x [${shape}]`,
  tolerance: 3e-6,
  build(g) {
    const w = g.param('w', packed([4, N, shape.at(-1) as number], parseFormat(weight)));
    g.output('y', expertMatmul(g.input('x', f32(shape)), w, g.input('chosen', i32([3, 2]))));
  },
  params: { w: packedTensor(2, [4, N, shape.at(-1) as number], weight) },
  runs: [{ x: gaussian(1, shape), chosen: Int32Array.of(3, 0, 1, 1, 2, 3) }],
});

const close: OpCase[] = [
  few('mxfp4', 1, 37, 1056),
  few('int4-g64-asym', 4, 5, 192),
  few('nvfp4', 5, 35, 64),
  few('int8-channel', 8, 3, 37),
  few('int3-channel', 2, 9, 21),
  few('q6_k', 1, 7, 256),
  experts('mxfp4', [3, 96], 35),
  experts('int4-g32-asym', [3, 2, 64], 5),
];

/** Where subgroups or integer dot products change the text of a kernel. */
const plain: OpCase[] = [
  products[1],
  products[5],
  ...close.slice(0, 3),
  ...['mxfp4', 'nvfp4-sr', 'int4-g32-asym'].map((format) =>
    dense(`rounding to ${format}`, [[37, 64]], 'exact', (a) =>
      dequantize(quantize(a, parseFormat(format), { seed: 5 })),
    ),
  ),
];

describe.skipIf(!backend)(`packed ops on webgpu${missing ? ` (${missing})` : ''}`, async () => {
  const gpu = backend as WebgpuBackend;
  const wasm = await createWasmBackend({ threads: 1 });
  afterAll(() => {
    gpu.dispose();
    wasm.dispose();
  });
  const check = async (opCase: OpCase, device: WebgpuBackend) => {
    const expected = await runOpCase(wasm, opCase);
    expect(differences(await runOpCase(device, opCase), expected, opCase.tolerance)).toEqual([]);
  };

  it.each([...hadamards, ...products].map((opCase) => [opCase.name, opCase] as const))(
    '%s has the bits of wasm',
    (_, opCase) => check(opCase, gpu),
  );

  it.each(close.map((opCase) => [opCase.name, opCase] as const))('%s agrees with wasm', (_, opCase) =>
    check(opCase, gpu),
  );

  it('refuses an expert that does not exist', async () => {
    const opCase = experts('mxfp4', [3, 96], 35);
    opCase.runs[0].chosen[4] = 4;
    await expect(runOpCase(gpu, opCase)).rejects.toThrow('an expert index is out of range');
  });

  it('gives the same without subgroups and integer dot products', async () => {
    const device = await createTestBackend({ withoutFeatures: ['subgroups', 'packed_4x8_integer_dot_product'] });
    expect([...device.gpu.features]).not.toContain('subgroups');
    for (const opCase of plain) await check(opCase, device);
    device.dispose();
  }, 240_000);
});
