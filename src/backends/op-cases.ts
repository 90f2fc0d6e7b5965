// One or more cases for every op of the catalogue, on awkward shapes: ones, primes, more than one vector width, K that
// is no multiple of 32 for dense operands, ties, masked rows, infinities; some large enough to be split over threads.

import { attentionCases, cacheCases, ropeCases } from './cases/attention.ts';
import { compositeCases } from './cases/composite.ts';
import { arithmeticCases, unaryCases } from './cases/elementwise.ts';
import { embeddingCases } from './cases/embedding.ts';
import { expertCases } from './cases/experts.ts';
import { fewRowsCases } from './cases/few-rows.ts';
import { gradientOpCases } from './cases/gradients.ts';
import { gramCases } from './cases/gram.ts';
import { kvAttentionCases, kvWriteCases } from './cases/kv.ts';
import { layoutCases } from './cases/layout.ts';
import { lossCases, routingCases } from './cases/losses.ts';
import { matmulCases, packedMatmulCases } from './cases/matmul.ts';
import { outlierCases } from './cases/outliers.ts';
import { fixedScaleCases, hadamardCases, quantizeCases } from './cases/quantize.ts';
import { normCases, reduceCases } from './cases/reduce.ts';
import { optimizerCases, roundingCases } from './cases/training.ts';
import { transposePackedCases } from './cases/transpose-packed.ts';
import type { OpCase } from './op-case.ts';

/** Every op, awkwardly. */
export const opCases: readonly OpCase[] = [
  ...layoutCases,
  ...arithmeticCases,
  ...unaryCases,
  ...reduceCases,
  ...normCases,
  ...embeddingCases,
  ...ropeCases,
  ...attentionCases,
  ...cacheCases,
  ...kvWriteCases,
  ...kvAttentionCases,
  ...matmulCases,
  ...packedMatmulCases,
  ...fewRowsCases,
  ...quantizeCases,
  ...fixedScaleCases,
  ...hadamardCases,
  ...transposePackedCases,
  ...expertCases,
  ...outlierCases,
  ...routingCases,
  ...lossCases,
  ...gramCases,
  ...compositeCases,
  ...gradientOpCases,
  ...roundingCases,
  ...optimizerCases,
];
