// Attention on tensor cores agrees with the reference on adapters whose matrices or subgroups differ from NVIDIA's
// (emulated-products.test.ts): 8 × 8 with subgroups of 32, as Apple has them, and with subgroups of 8.

import { afterAll, describe, expect, it } from 'vitest';
import { knownFragments } from '../../../test/support/null-gpu.ts';
import { createEmulatedBackend, missingGpu } from '../../../test/support/software-gpu.ts';
import { largeAttentionCases } from '../cases/large-attention.ts';
import { differences, runOpCase } from '../op-case.ts';
import { createReferenceBackend } from '../reference/reference-backend.ts';
import { webgpuTolerance } from './cases.ts';
import { fragmentsOf } from './fragments.ts';

const missing = missingGpu();
// of 8 × 8 matrices there are four times as many, and with more dimensions (or whole products) the text takes minutes and
// gigabytes to compile in software
const cases = largeAttentionCases.filter(({ name }) => name === 'large attention 16 dimensions');

describe.skipIf(missing).each(knownFragments.slice(1))(
  `emulated matrices of $edge rows, subgroups of $lanes${missing ? ` (${missing})` : ''}`,
  async (fragments) => {
    if (missing) return;
    const gpu = await createEmulatedBackend({ tensorCores: 'f16' }, fragments);
    const reference = createReferenceBackend();
    afterAll(() => gpu.dispose());

    it.each(cases.map((c) => [c.name, c] as const))('%s', { timeout: 300_000 }, async (_, opCase) => {
      expect(fragmentsOf(gpu.gpu)).toEqual(fragments);
      expect(gpu.gpu.tensorCores).toBe('f16');
      const found = await runOpCase(gpu, opCase);
      expect(differences(found, await runOpCase(reference, opCase), webgpuTolerance(opCase))).toEqual([]);
    });
  },
);
