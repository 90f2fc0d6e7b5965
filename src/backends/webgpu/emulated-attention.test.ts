// Attention on tensor cores computes what the reference does, on a GPU whose tensor cores are emulated
// (emulated-products.test.ts).

import { describeEmulated } from '../../../test/support/emulated-cases.ts';
import { largeAttentionCases } from '../cases/large-attention.ts';

// half a minute to compile what the causal one compiles too, but for its mask
const cases = largeAttentionCases.filter(({ name }) => name !== 'large attention 128 dimensions, full');

describeEmulated('attention on emulated tensor cores', cases);
