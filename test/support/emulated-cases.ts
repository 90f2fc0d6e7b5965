// Cases of ops on a GPU whose tensor cores are emulated, against the reference.

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { differences, type OpCase, runOpCase } from '../../src/backends/op-case.ts';
import { createReferenceBackend } from '../../src/backends/reference/reference-backend.ts';
import type { WebgpuBackend } from '../../src/backends/webgpu/backend.ts';
import { webgpuTolerance } from '../../src/backends/webgpu/cases.ts';
import { type Fragments, fragmentsOf } from '../../src/backends/webgpu/fragments.ts';
import { knownFragments } from './null-gpu.ts';
import { createEmulatedBackend, missingGpu } from './software-gpu.ts';

/** Kernels are compiled for seconds, on a busy machine for many. */
export const emulationTimeout = 300_000;

/** A test for each case with operands rounded to f16; `more` declares tests of the same backend. */
export function describeEmulated(
  name: string,
  cases: readonly OpCase[],
  fragments: Fragments = knownFragments[0],
  more: (backend: () => WebgpuBackend) => void = () => {},
): void {
  const missing = missingGpu();
  describe.skipIf(missing)(`${name}${missing ? ` (${missing})` : ''}`, () => {
    let gpu: WebgpuBackend;
    const reference = createReferenceBackend();
    beforeAll(async () => {
      gpu = await createEmulatedBackend({ tensorCores: 'f16' }, fragments);
    });
    afterAll(() => {
      expect(gpu.usedBytes).toBe(0);
      gpu.dispose();
    });

    it.each(cases.map((c) => [c.name, c] as const))('%s', { timeout: emulationTimeout }, async (_, opCase) => {
      expect(fragmentsOf(gpu.gpu)).toEqual(fragments);
      expect(gpu.gpu.tensorCores).toBe('f16');
      const found = await runOpCase(gpu, opCase);
      expect(differences(found, await runOpCase(reference, opCase), webgpuTolerance(opCase))).toEqual([]);
    });

    more(() => gpu);
  });
}
