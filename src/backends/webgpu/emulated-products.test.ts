// Products and losses on tensor cores compute what the reference does, on a GPU whose tensor cores are emulated: tiles,
// edges, scales and lanes run as they are, fragments and f16 as plain WGSL. scripts/check-webgpu.ts runs all cases on
// real ones.

import { afterAll, describe, expect, it } from 'vitest';
import { createEmulatedBackend, createTestBackend, missingGpu } from '../../../test/support/software-gpu.ts';
import { integerCases, largeProductCases } from '../cases/large-products.ts';
import { differences, runOpCase } from '../op-case.ts';
import { createReferenceBackend } from '../reference/reference-backend.ts';
import { webgpuTolerance } from './cases.ts';

const missing = missingGpu();
// 34 million logits, minutes here
const cases = largeProductCases.filter(({ name }) => name !== 'large loss of 8300 × 4096');

describe.skipIf(missing)(`products on emulated tensor cores${missing ? ` (${missing})` : ''}`, async () => {
  if (missing) return;
  const gpu = await createEmulatedBackend({ tensorCores: 'f16' });
  const reference = createReferenceBackend();
  afterAll(() => {
    expect(gpu.usedBytes).toBe(0);
    gpu.dispose();
  });

  // kernels are compiled for seconds, on a busy machine for many
  const timeout = 300_000;
  it.each(cases.map((c) => [c.name, c] as const))('%s', { timeout }, async (_, opCase) => {
    expect(gpu.gpu.tensorCores).toBe('f16');
    const found = await runOpCase(gpu, opCase);
    expect(differences(found, await runOpCase(reference, opCase), webgpuTolerance(opCase))).toEqual([]);
  });

  it('give integers the bits that dot products give', { timeout }, async () => {
    const plain = await createTestBackend({ tensorCores: 'off' });
    for (const opCase of integerCases) expect(await runOpCase(gpu, opCase)).toEqual(await runOpCase(plain, opCase));
    plain.dispose();
  });
});
