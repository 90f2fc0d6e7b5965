// Kernels for tensor cores compute what the reference does, on a GPU whose tensor cores are emulated: tiles, edges, scales
// and lanes run as they are, fragments and f16 as plain WGSL. scripts/check-webgpu.ts runs all cases on real ones.

import { afterAll, describe, expect, it } from 'vitest';
import { createEmulatedBackend, missingGpu } from '../../../test/support/software-gpu.ts';
import { largeAttentionCases } from '../cases/large-attention.ts';
import { largeProductCases } from '../cases/large-products.ts';
import { differences, runOpCase } from '../op-case.ts';
import { createReferenceBackend } from '../reference/reference-backend.ts';
import type { WebgpuBackend } from './backend.ts';
import { webgpuTolerance } from './cases.ts';

const missing = missingGpu();
const backend = missing ? undefined : await createEmulatedBackend({ tensorCores: 'f16' });
// 34 million logits, minutes here
const products = largeProductCases.filter(({ name }) => name !== 'large loss of 8300 × 4096');

describe.skipIf(!backend)(`emulated tensor cores${missing ? ` (${missing})` : ''}`, () => {
  const gpu = backend as WebgpuBackend;
  const reference = createReferenceBackend();
  afterAll(() => {
    expect(gpu.usedBytes).toBe(0);
    gpu.dispose();
  });

  // kernels are compiled for seconds, on a busy machine for many
  const timeout = 300_000;
  it.each([...products, ...largeAttentionCases].map((c) => [c.name, c] as const))(
    '%s',
    { timeout },
    async (_, opCase) => {
      expect(gpu.gpu.tensorCores).toBe('f16');
      const found = await runOpCase(gpu, opCase);
      expect(differences(found, await runOpCase(reference, opCase), webgpuTolerance(opCase))).toEqual([]);
    },
  );
});
