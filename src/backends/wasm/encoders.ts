// Which encoder runs which op on the WASM backend.

import type { OpEncoder } from './encoder.ts';
import { attentionEncoder, ropeEncoder } from './encoders/attention.ts';
import { affineEncoder, arithmeticEncoder, swigluEncoder, unaryEncoder } from './encoders/elementwise.ts';
import {
  adamwEncoder,
  dgeBackwardEncoder,
  fakeQuantizeBackwardEncoder,
  fakeQuantizeEncoder,
  roundToBf16Encoder,
  selectBitsEncoder,
  sgdEncoder,
  sgdMomentumEncoder,
  swigluBackwardEncoder,
  targetMaskEncoder,
  unaryBackwardEncoder,
} from './encoders/elementwise-backward.ts';
import { expertWeightGradientEncoder, sortByExpertEncoder } from './encoders/experts.ts';
import { gramUpdateEncoder } from './encoders/gram.ts';
import { cacheWriteEncoder, kvAttentionEncoder, packChannelsEncoder, ringWriteEncoder } from './encoders/kv.ts';
import {
  broadcastToEncoder,
  concatEncoder,
  dequantizeEncoder,
  embeddingEncoder,
  padEncoder,
  reshapeEncoder,
  sliceEncoder,
  transposeEncoder,
} from './encoders/layout.ts';
import { compareLogitsEncoder, crossEntropyEncoder } from './encoders/losses.ts';
import { sparseMatmulEncoder, splitOutliersEncoder, spreadSparseEncoder } from './encoders/outliers.ts';
import {
  attentionBackwardEncoder,
  compareLogitsBackwardEncoder,
  crossEntropyBackwardEncoder,
  expertMatmulBackwardEncoder,
} from './encoders/products-backward.ts';
import { quantizeEncoder } from './encoders/quantize.ts';
import {
  argmaxEncoder,
  hadamardEncoder,
  layerNormEncoder,
  reduceEncoder,
  rmsNormEncoder,
  softmaxEncoder,
  topKEncoder,
} from './encoders/rows.ts';
import {
  embeddingBackwardEncoder,
  layerNormBackwardEncoder,
  maxBackwardEncoder,
  rmsNormBackwardEncoder,
  softmaxBackwardEncoder,
  topKBackwardEncoder,
} from './encoders/rows-backward.ts';
import { holdUpdatesEncoder, sumSquaresEncoder } from './encoders/step.ts';
import { transposePackedEncoder } from './encoders/transpose-packed.ts';
import { matmulEncoder } from './matmul.ts';
import { expertMatmulEncoder } from './matmul-expert.ts';
import { integerPanelsEncoder } from './matmul-integer.ts';

export const encoders: ReadonlyMap<string, OpEncoder> = new Map<string, OpEncoder>([
  ['reshape', reshapeEncoder],
  ['transpose', transposeEncoder],
  ['slice', sliceEncoder],
  ['concat', concatEncoder],
  ['add', arithmeticEncoder],
  ['sub', arithmeticEncoder],
  ['mul', arithmeticEncoder],
  ['div', arithmeticEncoder],
  ['unary', unaryEncoder],
  ['affine', affineEncoder],
  ['swiglu', swigluEncoder],
  ['reduce', reduceEncoder],
  ['argmax', argmaxEncoder],
  ['softmax', softmaxEncoder],
  ['rmsNorm', rmsNormEncoder],
  ['layerNorm', layerNormEncoder],
  ['embedding', embeddingEncoder],
  ['rope', ropeEncoder],
  ['attention', attentionEncoder],
  ['cacheWrite', cacheWriteEncoder],
  ['ringWrite', ringWriteEncoder],
  ['packChannels', packChannelsEncoder],
  ['kvAttention', kvAttentionEncoder],
  ['matmul', matmulEncoder],
  ['integerPanels', integerPanelsEncoder],
  ['expertMatmul', expertMatmulEncoder],
  ['gramUpdate', gramUpdateEncoder],
  ['quantize', quantizeEncoder],
  ['dequantize', dequantizeEncoder],
  ['hadamard', hadamardEncoder],
  ['topK', topKEncoder],
  ['crossEntropy', crossEntropyEncoder],
  ['compareLogits', compareLogitsEncoder],
  ['pad', padEncoder],
  ['broadcastTo', broadcastToEncoder],
  ['fakeQuantize', fakeQuantizeEncoder],
  ['unaryBackward', unaryBackwardEncoder],
  ['swigluBackward', swigluBackwardEncoder],
  ['maxBackward', maxBackwardEncoder],
  ['softmaxBackward', softmaxBackwardEncoder],
  ['rmsNormBackward', rmsNormBackwardEncoder],
  ['layerNormBackward', layerNormBackwardEncoder],
  ['embeddingBackward', embeddingBackwardEncoder],
  ['attentionBackward', attentionBackwardEncoder],
  ['topKBackward', topKBackwardEncoder],
  ['expertMatmulBackward', expertMatmulBackwardEncoder],
  ['crossEntropyBackward', crossEntropyBackwardEncoder],
  ['compareLogitsBackward', compareLogitsBackwardEncoder],
  ['fakeQuantizeBackward', fakeQuantizeBackwardEncoder],
  ['dgeBackward', dgeBackwardEncoder],
  ['targetMask', targetMaskEncoder],
  ['sgd', sgdEncoder],
  ['sgdMomentum', sgdMomentumEncoder],
  ['adamw', adamwEncoder],
  ['roundToBf16', roundToBf16Encoder],
  ['selectBits', selectBitsEncoder],
  ['sumSquares', sumSquaresEncoder],
  ['holdUpdates', holdUpdatesEncoder],
  ['transposePacked', transposePackedEncoder],
  ['splitOutliers', splitOutliersEncoder],
  ['sparseMatmul', sparseMatmulEncoder],
  ['spreadSparse', spreadSparseEncoder],
  ['sortByExpert', sortByExpertEncoder],
  ['expertWeightGradient', expertWeightGradientEncoder],
]);
