// Every op, for checks that a backend has a kernel for each and for tests that walk over all of them.

import type { OpDefinition } from './graph.ts';
import { affineOp } from './ops/affine.ts';
import { addOp, divOp, mulOp, subOp } from './ops/arithmetic.ts';
import { attentionBackwardOp, attentionOp } from './ops/attention.ts';
import { cacheWriteOp } from './ops/cache-write.ts';
import { compareLogitsBackwardOp, compareLogitsOp } from './ops/compare-logits.ts';
import { crossEntropyBackwardOp, crossEntropyOp } from './ops/cross-entropy.ts';
import { dgeBackwardOp } from './ops/dge.ts';
import { embeddingBackwardOp, embeddingOp } from './ops/embedding.ts';
import { expertMatmulBackwardOp, expertMatmulOp, expertWeightGradientOp } from './ops/expert-matmul.ts';
import { fakeQuantizeBackwardOp, fakeQuantizeOp } from './ops/fake-quantize.ts';
import { gramUpdateOp } from './ops/gram.ts';
import { hadamardOp } from './ops/hadamard.ts';
import { holdUpdatesOp } from './ops/hold-updates.ts';
import { kvAttentionOp } from './ops/kv-attention.ts';
import { packChannelsOp, ringWriteOp } from './ops/kv-write.ts';
import { concatOp, padOp, reshapeOp, sliceOp, transposeOp } from './ops/layout.ts';
import { matmulOp } from './ops/matmul.ts';
import { layerNormBackwardOp, layerNormOp, rmsNormBackwardOp, rmsNormOp } from './ops/norm.ts';
import { adamwOp, sgdMomentumOp, sgdOp } from './ops/optimizers.ts';
import { sparseMatmulOp, splitOutliersOp, spreadSparseOp } from './ops/outliers.ts';
import { dequantizeOp, quantizeOp, selectBitsOp } from './ops/quantize.ts';
import { argmaxOp, broadcastToOp, maxBackwardOp, reduceOp } from './ops/reduce.ts';
import { ropeOp } from './ops/rope.ts';
import { roundToBf16Op } from './ops/round-state.ts';
import { softmaxBackwardOp, softmaxOp } from './ops/softmax.ts';
import { sortByExpertOp } from './ops/sort-by-expert.ts';
import { sumSquaresOp } from './ops/sum-squares.ts';
import { swigluBackwardOp, swigluOp } from './ops/swiglu.ts';
import { targetMaskOp } from './ops/target-mask.ts';
import { topKBackwardOp, topKOp } from './ops/top-k.ts';
import { transposePackedOp } from './ops/transpose-packed.ts';
import { unaryBackwardOp, unaryOp } from './ops/unary.ts';

/** Ops by name. Attribute types differ, so entries are known by their name only. */
export const opCatalog: ReadonlyMap<
  string,
  Pick<OpDefinition, 'name' | 'inPlace' | 'updates' | 'elementwise'>
> = new Map(
  [
    reshapeOp,
    transposeOp,
    sliceOp,
    concatOp,
    addOp,
    subOp,
    mulOp,
    divOp,
    unaryOp,
    affineOp,
    swigluOp,
    reduceOp,
    argmaxOp,
    softmaxOp,
    rmsNormOp,
    layerNormOp,
    embeddingOp,
    ropeOp,
    attentionOp,
    cacheWriteOp,
    ringWriteOp,
    packChannelsOp,
    kvAttentionOp,
    matmulOp,
    quantizeOp,
    dequantizeOp,
    selectBitsOp,
    transposePackedOp,
    splitOutliersOp,
    sparseMatmulOp,
    spreadSparseOp,
    hadamardOp,
    topKOp,
    expertMatmulOp,
    sortByExpertOp,
    crossEntropyOp,
    compareLogitsOp,
    fakeQuantizeOp,
    padOp,
    broadcastToOp,
    gramUpdateOp,
    unaryBackwardOp,
    swigluBackwardOp,
    maxBackwardOp,
    softmaxBackwardOp,
    rmsNormBackwardOp,
    layerNormBackwardOp,
    embeddingBackwardOp,
    attentionBackwardOp,
    topKBackwardOp,
    expertMatmulBackwardOp,
    expertWeightGradientOp,
    crossEntropyBackwardOp,
    compareLogitsBackwardOp,
    fakeQuantizeBackwardOp,
    dgeBackwardOp,
    targetMaskOp,
    sumSquaresOp,
    holdUpdatesOp,
    sgdOp,
    sgdMomentumOp,
    adamwOp,
    roundToBf16Op,
  ].map((op) => [op.name, op]),
);
