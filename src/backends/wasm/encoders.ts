// Which encoder runs which op on the WASM backend.

import type { OpEncoder } from './encoder.ts';
import { attentionEncoder, ropeEncoder } from './encoders/attention.ts';
import { affineEncoder, arithmeticEncoder, swigluEncoder, unaryEncoder } from './encoders/elementwise.ts';
import { cacheWriteEncoder, kvAttentionEncoder, packChannelsEncoder, ringWriteEncoder } from './encoders/kv.ts';
import {
  concatEncoder,
  dequantizeEncoder,
  embeddingEncoder,
  reshapeEncoder,
  sliceEncoder,
  transposeEncoder,
} from './encoders/layout.ts';
import { compareLogitsEncoder, crossEntropyEncoder } from './encoders/losses.ts';
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
import { matmulEncoder } from './matmul.ts';
import { expertMatmulEncoder } from './matmul-expert.ts';

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
  ['expertMatmul', expertMatmulEncoder],
  ['quantize', quantizeEncoder],
  ['dequantize', dequantizeEncoder],
  ['hadamard', hadamardEncoder],
  ['topK', topKEncoder],
  ['crossEntropy', crossEntropyEncoder],
  ['compareLogits', compareLogitsEncoder],
]);
