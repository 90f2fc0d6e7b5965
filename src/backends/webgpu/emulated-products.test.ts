// Products and losses on tensor cores compute what the reference does, on a GPU whose tensor cores are emulated: tiles,
// edges, scales and lanes run as they are, fragments and f16 as plain WGSL. scripts/check-webgpu.ts runs all cases on
// real ones.

import { expect, it } from 'vitest';
import { describeEmulated, emulationTimeout } from '../../../test/support/emulated-cases.ts';
import { createTestBackend } from '../../../test/support/software-gpu.ts';
import { integerCases, largeProductCases } from '../cases/large-products.ts';
import { runOpCase } from '../op-case.ts';

// 34 million logits, minutes here
const cases = largeProductCases.filter(({ name }) => name !== 'large loss of 8300 × 4096');

describeEmulated('products on emulated tensor cores', cases, undefined, (gpu) => {
  it('give integers the bits that dot products give', { timeout: emulationTimeout }, async () => {
    const plain = await createTestBackend({ tensorCores: 'off' });
    for (const opCase of integerCases) expect(await runOpCase(gpu(), opCase)).toEqual(await runOpCase(plain, opCase));
    plain.dispose();
  });
});
