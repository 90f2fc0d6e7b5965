// Ops on packed values give the bits of the WASM backend, whose kernels state the order of their f32 operations.

import { afterAll, describe, expect, it } from 'vitest';
import { createTestBackend, missingGpu } from '../../../test/support/software-gpu.ts';
import { hadamard } from '../../graph/ops/hadamard.ts';
import { dense } from '../cases/common.ts';
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

describe.skipIf(!backend)(`packed ops on webgpu${missing ? ` (${missing})` : ''}`, async () => {
  const gpu = backend as WebgpuBackend;
  const wasm = await createWasmBackend({ threads: 1 });
  afterAll(() => {
    gpu.dispose();
    wasm.dispose();
  });

  it.each(hadamards.map((opCase) => [opCase.name, opCase] as const))('%s has the bits of wasm', async (_, opCase) => {
    const expected = await runOpCase(wasm, opCase);
    expect(differences(await runOpCase(gpu, opCase), expected, 'exact')).toEqual([]);
  });
});
