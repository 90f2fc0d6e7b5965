// The command walker: runs a compiled step.
//
// A program is a table of (kernel id, address of the argument block), 8 bytes each. Every thread walks the whole table
// and calls each kernel with (args, thread, threads); a kernel takes its share of the rows, and a barrier separates a
// command from the next. A replay therefore does no work outside this loop and allocates nothing.

import {
  affineKernel,
  argmaxKernel,
  arithmeticKernel,
  attentionKernel,
  cacheWriteKernel,
  compareLogitsKernel,
  copyStridedKernel,
  crossEntropyCombineKernel,
  crossEntropyPartialKernel,
  decodeRowsKernel,
  embeddingKernel,
  expertMatmulKernel,
  expertSortKernel,
  fillKernel,
  gramKernel,
  firstBackwardKernel,
  hadamardKernel,
  kvAttentionKernel,
  layerNormKernel,
  matmulF32Kernel,
  matmulIntKernel,
  noopKernel,
  packChannelsKernel,
  packIntKernel,
  quantizeByRowsKernel,
  quantizeHalvesKernel,
  quantizeHif4Kernel,
  quantizeLegacyKernel,
  quantizeMaximumKernel,
  quantizeMxfp4Kernel,
  quantizeNvfp4Kernel,
  quantizeSpecKernel,
  reduceKernel,
  rmsNormKernel,
  ringWriteKernel,
  ropeKernel,
  softmaxKernel,
  swigluKernel,
  topKKernel,
  unaryKernel,
} from '../../kernel-ids.ts';
import { barrier } from '../common/barrier.ts';
import { attention } from './attention.ts';
import { dispatchBackward } from './backward.ts';
import { kvAttention } from './attention-kv.ts';
import { affine, arithmetic, swiglu, unary } from './elementwise.ts';
import { enterCommand } from './error.ts';
import { gram } from './gram.ts';
import { hadamard } from './hadamard.ts';
import { cacheWrite, copyStrided, fill, ringWrite } from './layout.ts';
import { compareLogits, crossEntropyCombine, crossEntropyPartial } from './losses.ts';
import { decodeRows } from './matmul-decode-rows.ts';
import { expertMatmul, expertSort } from './matmul-expert.ts';
import { matmulF32 } from './matmul-f32.ts';
import { matmulInt, packInt } from './matmul-int.ts';
import { layerNorm, rmsNorm, softmax } from './norm.ts';
import { packChannels } from './pack-channels.ts';
import { quantizeHalves, quantizeHif4, quantizeLegacy } from './quantize-blocks.ts';
import { quantizeMxfp4 } from './quantize-mxfp4.ts';
import { quantizeNvfp4 } from './quantize-nvfp4.ts';
import { quantizeByRows } from './quantize-rows.ts';
import { quantizeMaximum, quantizeSpec } from './quantize-spec.ts';
import { argmax, reduce } from './reduce.ts';
import { rope } from './rope.ts';
import { topK } from './routing.ts';
import { embedding } from './tables.ts';

function dispatch(kernel: i32, args: usize, thread: i32, threads: i32): void {
  switch (kernel) {
    case noopKernel:
      return;
    case fillKernel:
      fill(args, thread, threads);
      return;
    case copyStridedKernel:
      copyStrided(args, thread, threads);
      return;
    case cacheWriteKernel:
      cacheWrite(args, thread, threads);
      return;
    case ringWriteKernel:
      ringWrite(args, thread, threads);
      return;
    case packChannelsKernel:
      packChannels(args, thread, threads);
      return;
    case kvAttentionKernel:
      kvAttention(args, thread, threads);
      return;
    case embeddingKernel:
      embedding(args, thread, threads);
      return;
    case unaryKernel:
      unary(args, thread, threads);
      return;
    case affineKernel:
      affine(args, thread, threads);
      return;
    case swigluKernel:
      swiglu(args, thread, threads);
      return;
    case arithmeticKernel:
      arithmetic(args, thread, threads);
      return;
    case reduceKernel:
      reduce(args, thread, threads);
      return;
    case argmaxKernel:
      argmax(args, thread, threads);
      return;
    case softmaxKernel:
      softmax(args, thread, threads);
      return;
    case rmsNormKernel:
      rmsNorm(args, thread, threads);
      return;
    case layerNormKernel:
      layerNorm(args, thread, threads);
      return;
    case topKKernel:
      topK(args, thread, threads);
      return;
    case hadamardKernel:
      hadamard(args, thread, threads);
      return;
    case ropeKernel:
      rope(args, thread, threads);
      return;
    case attentionKernel:
      attention(args, thread, threads);
      return;
    case crossEntropyPartialKernel:
      crossEntropyPartial(args, thread, threads);
      return;
    case crossEntropyCombineKernel:
      crossEntropyCombine(args, thread, threads);
      return;
    case compareLogitsKernel:
      compareLogits(args, thread, threads);
      return;
    case matmulF32Kernel:
      matmulF32(args, thread, threads);
      return;
    case matmulIntKernel:
      matmulInt(args, thread, threads);
      return;
    case packIntKernel:
      packInt(args, thread, threads);
      return;
    case expertSortKernel:
      expertSort(args, thread, threads);
      return;
    case expertMatmulKernel:
      expertMatmul(args, thread, threads);
      return;
    case gramKernel:
      gram(args, thread, threads);
      return;
    case decodeRowsKernel:
      decodeRows(args, thread, threads);
      return;
    case quantizeMxfp4Kernel:
      quantizeMxfp4(args, thread, threads);
      return;
    case quantizeNvfp4Kernel:
      quantizeNvfp4(args, thread, threads);
      return;
    case quantizeHalvesKernel:
      quantizeHalves(args, thread, threads);
      return;
    case quantizeHif4Kernel:
      quantizeHif4(args, thread, threads);
      return;
    case quantizeLegacyKernel:
      quantizeLegacy(args, thread, threads);
      return;
    case quantizeMaximumKernel:
      quantizeMaximum(args, thread, threads);
      return;
    case quantizeByRowsKernel:
      quantizeByRows(args, thread, threads);
      return;
    case quantizeSpecKernel:
      quantizeSpec(args, thread, threads);
      return;
    default:
      if (kernel >= firstBackwardKernel) dispatchBackward(kernel, args, thread, threads);
      else unreachable();
  }
}

/** Runs `count` commands at `program`; called in every thread. */
export function run(program: usize, count: i32, thread: i32, threads: i32): void {
  for (let i = 0; i < count; i++) {
    enterCommand(i);
    dispatch(load<i32>(program), load<usize>(program + 4), thread, threads);
    program += 8;
    barrier(thread, threads);
  }
}
