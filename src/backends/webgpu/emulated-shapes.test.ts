// Attention on tensor cores agrees with the reference on adapters whose matrices or subgroups differ from NVIDIA's
// (emulated-products.test.ts): 8 × 8 with subgroups of 32, as Apple has them, and with subgroups of 8.

import { describeEmulated } from '../../../test/support/emulated-cases.ts';
import { knownFragments } from '../../../test/support/null-gpu.ts';
import { largeAttentionCases } from '../cases/large-attention.ts';

// of 8 × 8 matrices there are four times as many, and with more dimensions (or whole products) the text takes minutes and
// gigabytes to compile in software
const cases = largeAttentionCases.filter(({ name }) => name === 'large attention 16 dimensions');

for (const fragments of knownFragments.slice(1))
  describeEmulated(`emulated matrices of ${fragments.edge} rows, subgroups of ${fragments.lanes}`, cases, fragments);
