// The reference kernel of every op, by op name.

import { attention } from './attention.ts';
import { attentionBackward } from './attention-backward.ts';
import { cacheWrite, packChannels, ringWrite } from './cache-write.ts';
import { compareLogits, crossEntropy } from './cross-entropy.ts';
import { compareLogitsBackward, crossEntropyBackward } from './cross-entropy-backward.ts';
import { add, affine, div, mul, sub, swiglu, unary } from './elementwise.ts';
import { swigluBackward, unaryBackward } from './elementwise-backward.ts';
import { embedding } from './embedding.ts';
import { expertMatmul } from './expert-matmul.ts';
import { dgeBackward, fakeQuantize, fakeQuantizeBackward } from './fake-quantize.ts';
import { gramUpdate } from './gram.ts';
import { hadamard } from './hadamard.ts';
import type { Kernel } from './kernel.ts';
import { kvAttention } from './kv-attention.ts';
import { concat, reshape, slice, transpose } from './layout.ts';
import { matmul } from './matmul.ts';
import { layerNorm, rmsNorm } from './norm.ts';
import { adamw, holdUpdates, roundToBf16, sgd, sgdMomentum, sumSquares } from './optimizers.ts';
import { sparseMatmul, splitOutliers, spreadSparse } from './outliers.ts';
import { dequantize, quantize, selectBits } from './quantize.ts';
import { argmax, reduce } from './reduce.ts';
import {
  broadcastTo,
  layerNormBackward,
  maxBackward,
  pad,
  rmsNormBackward,
  softmaxBackward,
} from './reduce-backward.ts';
import { rope } from './rope.ts';
import { embeddingBackward, expertMatmulBackward, expertWeightGradient, topKBackward } from './scatter.ts';
import { softmax } from './softmax.ts';
import { sortByExpert } from './sort-by-expert.ts';
import { targetMask } from './target-mask.ts';
import { topK } from './top-k.ts';
import { transposePacked } from './transpose-packed.ts';

export const kernels: ReadonlyMap<string, Kernel> = new Map(
  Object.entries({
    reshape,
    transpose,
    slice,
    concat,
    add,
    sub,
    mul,
    div,
    unary,
    affine,
    swiglu,
    reduce,
    argmax,
    softmax,
    rmsNorm,
    layerNorm,
    embedding,
    rope,
    attention,
    cacheWrite,
    ringWrite,
    packChannels,
    kvAttention,
    matmul,
    quantize,
    dequantize,
    selectBits,
    transposePacked,
    splitOutliers,
    sparseMatmul,
    spreadSparse,
    hadamard,
    topK,
    expertMatmul,
    crossEntropy,
    compareLogits,
    fakeQuantize,
    pad,
    broadcastTo,
    gramUpdate,
    unaryBackward,
    swigluBackward,
    maxBackward,
    softmaxBackward,
    rmsNormBackward,
    layerNormBackward,
    embeddingBackward,
    attentionBackward,
    topKBackward,
    expertMatmulBackward,
    expertWeightGradient,
    sortByExpert,
    crossEntropyBackward,
    compareLogitsBackward,
    fakeQuantizeBackward,
    dgeBackward,
    targetMask,
    sgd,
    sgdMomentum,
    adamw,
    roundToBf16,
    sumSquares,
    holdUpdates,
  } satisfies Record<string, Kernel>),
);
