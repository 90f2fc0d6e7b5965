// Kernels on tensor cores agree with the reference on adapters whose matrices or subgroups differ from NVIDIA's
// (emulated-products.test.ts): 8 × 8 with subgroups of 32, as Apple has them, and with subgroups of 8.

import { afterAll, describe, expect, it } from 'vitest';
import { knownFragments } from '../../../test/support/null-gpu.ts';
import { createEmulatedBackend, missingGpu } from '../../../test/support/software-gpu.ts';
import { largeAttentionCases } from '../cases/large-attention.ts';
import { largeProductCases } from '../cases/large-products.ts';
import { differences, runOpCase } from '../op-case.ts';
import { createReferenceBackend } from '../reference/reference-backend.ts';
import { webgpuTolerance } from './cases.ts';
import { fragmentsOf } from './fragments.ts';

const missing = missingGpu();
const names = [
  ...['TT', 'in pieces of K', 'mxfp4 × mxfp4', 'f32 × int4-g32'].map((name) => `large product ${name}`),
  'large loss of 300 × 264',
  ...['rising scores', 'narrow window, several blocks', '80 dimensions'].map((name) => `large attention ${name}`),
];
const cases = names.map((name) => {
  const found = [...largeProductCases, ...largeAttentionCases].find((c) => c.name === name);
  if (!found) throw new Error(`there is no case ${name}`);
  return found;
});

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
