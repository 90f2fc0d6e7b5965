// Which kernel of gradients and training a command names: the part of the engine's dispatch above id 200.

import {
  adamwKernel,
  addBlocksKernel,
  addHeadsKernel,
  attentionBackwardKernel,
  compareLogitsBackwardKernel,
  crossEntropyBackwardKernel,
  dgeBackwardKernel,
  embeddingBackwardKernel,
  expertInputGradientKernel,
  expertWeightGradientKernel,
  fakeQuantizeKernel,
  fakeQuantizeBackwardKernel,
  maxBackwardKernel,
  holdUpdatesKernel,
  normBackwardKernel,
  roundToBf16Kernel,
  selectBitsKernel,
  sortByExpertKernel,
  sparseMatmulKernel,
  splitOutliersKernel,
  spreadSparseKernel,
  transposePackedKernel,
  sgdKernel,
  sgdMomentumKernel,
  softmaxBackwardKernel,
  swigluBackwardKernel,
  targetMaskKernel,
  topKBackwardKernel,
  unaryBackwardKernel,
} from '../../kernel-ids.ts';
import { addHeads, attentionBackward } from './attention-backward.ts';
import { dgeBackward } from './dge.ts';
import { swigluBackward, unaryBackward } from './elementwise-backward.ts';
import { fakeQuantize, fakeQuantizeBackward } from './fake-quantize.ts';
import { compareLogitsBackward, crossEntropyBackward } from './losses-backward.ts';
import { expertInputGradient, expertWeightGradient } from './matmul-expert-backward.ts';
import { addBlocks, maxBackward, normBackward, softmaxBackward } from './norm-backward.ts';
import { adamw, holdUpdates, roundToBf16, sgd, sgdMomentum } from './optimizers.ts';
import { sparseMatmul, splitOutliers, spreadSparse } from './outliers.ts';
import { selectBits } from './select-bits.ts';
import { sortByExpert } from './sort-by-expert.ts';
import { transposePacked } from './transpose-packed.ts';
import { embeddingBackward, targetMask, topKBackward } from './scatter.ts';

export function dispatchBackward(kernel: i32, args: usize, thread: i32, threads: i32): void {
  switch (kernel) {
    case unaryBackwardKernel:
      unaryBackward(args, thread, threads);
      return;
    case swigluBackwardKernel:
      swigluBackward(args, thread, threads);
      return;
    case fakeQuantizeKernel:
      fakeQuantize(args, thread, threads);
      return;
    case fakeQuantizeBackwardKernel:
      fakeQuantizeBackward(args, thread, threads);
      return;
    case dgeBackwardKernel:
      dgeBackward(args, thread, threads);
      return;
    case softmaxBackwardKernel:
      softmaxBackward(args, thread, threads);
      return;
    case normBackwardKernel:
      normBackward(args, thread, threads);
      return;
    case addBlocksKernel:
      addBlocks(args, thread, threads);
      return;
    case maxBackwardKernel:
      maxBackward(args, thread, threads);
      return;
    case embeddingBackwardKernel:
      embeddingBackward(args, thread, threads);
      return;
    case topKBackwardKernel:
      topKBackward(args, thread, threads);
      return;
    case targetMaskKernel:
      targetMask(args, thread, threads);
      return;
    case attentionBackwardKernel:
      attentionBackward(args, thread, threads);
      return;
    case addHeadsKernel:
      addHeads(args, thread, threads);
      return;
    case crossEntropyBackwardKernel:
      crossEntropyBackward(args, thread, threads);
      return;
    case compareLogitsBackwardKernel:
      compareLogitsBackward(args, thread, threads);
      return;
    case expertInputGradientKernel:
      expertInputGradient(args, thread, threads);
      return;
    case expertWeightGradientKernel:
      expertWeightGradient(args, thread, threads);
      return;
    case sgdKernel:
      sgd(args, thread, threads);
      return;
    case sgdMomentumKernel:
      sgdMomentum(args, thread, threads);
      return;
    case adamwKernel:
      adamw(args, thread, threads);
      return;
    case roundToBf16Kernel:
      roundToBf16(args, thread, threads);
      return;
    case splitOutliersKernel:
      splitOutliers(args, thread, threads);
      return;
    case sparseMatmulKernel:
      sparseMatmul(args, thread, threads);
      return;
    case spreadSparseKernel:
      spreadSparse(args, thread, threads);
      return;
    case sortByExpertKernel:
      sortByExpert(args, thread);
      return;
    case transposePackedKernel:
      transposePacked(args, thread, threads);
      return;
    case selectBitsKernel:
      selectBits(args, thread, threads);
      return;
    case holdUpdatesKernel:
      holdUpdates(args, thread);
      return;
    default:
      unreachable();
  }
}
