// Ops on packed values give the bits of the WASM backend, whose kernels state the order of their f32 operations.

import { afterAll, describe, expect, it } from 'vitest';
import { createTestBackend, missingGpu } from '../../../test/support/software-gpu.ts';
import { parseFormat } from '../../formats/registry.ts';
import { hadamard } from '../../graph/ops/hadamard.ts';
import { matmul } from '../../graph/ops/matmul.ts';
import { quantize } from '../../graph/ops/quantize.ts';
import { f32, packed } from '../../graph/value-type.ts';
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

describe.skipIf(!backend)(`packed ops on webgpu${missing ? ` (${missing})` : ''}`, async () => {
  const gpu = backend as WebgpuBackend;
  const wasm = await createWasmBackend({ threads: 1 });
  afterAll(() => {
    gpu.dispose();
    wasm.dispose();
  });

  it.each([...hadamards, ...products].map((opCase) => [opCase.name, opCase] as const))(
    '%s has the bits of wasm',
    async (_, opCase) => {
      const expected = await runOpCase(wasm, opCase);
      expect(differences(await runOpCase(gpu, opCase), expected, 'exact')).toEqual([]);
    },
  );
});
