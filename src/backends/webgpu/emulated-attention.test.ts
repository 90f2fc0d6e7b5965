// Attention on tensor cores computes what the reference does, on a GPU whose tensor cores are emulated
// (emulated-products.test.ts).

import { afterAll, describe, expect, it } from 'vitest';
import { createEmulatedBackend, missingGpu } from '../../../test/support/software-gpu.ts';
import { largeAttentionCases } from '../cases/large-attention.ts';
import { differences, runOpCase } from '../op-case.ts';
import { createReferenceBackend } from '../reference/reference-backend.ts';
import { webgpuTolerance } from './cases.ts';

const missing = missingGpu();
// half a minute to compile what the causal one compiles too, but for its mask
const cases = largeAttentionCases.filter(({ name }) => name !== 'large attention 128 dimensions, full');

describe.skipIf(missing)(`attention on emulated tensor cores${missing ? ` (${missing})` : ''}`, async () => {
  if (missing) return;
  const gpu = await createEmulatedBackend({ tensorCores: 'f16' });
  const reference = createReferenceBackend();
  afterAll(() => {
    expect(gpu.usedBytes).toBe(0);
    gpu.dispose();
  });

  it.each(cases.map((c) => [c.name, c] as const))('%s', { timeout: 300_000 }, async (_, opCase) => {
    const found = await runOpCase(gpu, opCase);
    expect(differences(found, await runOpCase(reference, opCase), webgpuTolerance(opCase))).toEqual([]);
  });
});
