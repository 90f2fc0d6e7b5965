// Kernel ids: the numbers by which a command names its kernel.
//
// Shared by the host (encoders) and the AssemblyScript engine (kernels/engine/index.ts switches on them), so this file
// holds plain numeric constants only.

export const noopKernel = 0;
export const fillKernel = 1;

// Data movement.
export const copyStridedKernel = 2;
export const cacheWriteKernel = 3;
export const embeddingKernel = 4;

// Elementwise.
export const unaryKernel = 10;
export const affineKernel = 11;
export const swigluKernel = 12;
export const arithmeticKernel = 13;

// Rows and reductions.
export const reduceKernel = 20;
export const argmaxKernel = 21;
export const softmaxKernel = 22;
export const rmsNormKernel = 23;
export const layerNormKernel = 24;
export const topKKernel = 25;
export const hadamardKernel = 26;

// Attention and losses.
export const ropeKernel = 30;
export const attentionKernel = 31;
export const crossEntropyPartialKernel = 32;
export const crossEntropyCombineKernel = 33;
export const compareLogitsKernel = 34;

// Quantized key/value caches.
export const ringWriteKernel = 36;
export const packChannelsKernel = 37;
export const kvAttentionKernel = 38;

// The op quantize.
export const quantizeMaximumKernel = 40;
export const quantizeSpecKernel = 41;
export const quantizeHalvesKernel = 42;
export const quantizeLegacyKernel = 43;
export const quantizeHif4Kernel = 44;
export const quantizeByRowsKernel = 45;
export const quantizeMxfp4Kernel = 46;
export const quantizeNvfp4Kernel = 47;

// Matrix products.
export const matmulF32Kernel = 100;
export const matmulIntKernel = 101;
export const packIntKernel = 102;
export const decodeRowsKernel = 103;
export const expertSortKernel = 104;
export const expertMatmulKernel = 105;
export const gramKernel = 106;

// Gradients and training, dispatched by kernels/engine/backward.ts.
export const firstBackwardKernel = 200;
export const unaryBackwardKernel = 200;
export const swigluBackwardKernel = 201;
export const fakeQuantizeKernel = 202;
export const fakeQuantizeBackwardKernel = 203;
export const dgeBackwardKernel = 204;
export const softmaxBackwardKernel = 210;
export const normBackwardKernel = 211;
export const addBlocksKernel = 212;
export const maxBackwardKernel = 213;
export const embeddingBackwardKernel = 220;
export const topKBackwardKernel = 221;
export const targetMaskKernel = 222;
export const attentionBackwardKernel = 230;
export const addHeadsKernel = 231;
export const crossEntropyBackwardKernel = 232;
export const compareLogitsBackwardKernel = 233;
export const expertInputGradientKernel = 234;
export const expertWeightGradientKernel = 235;
export const sgdKernel = 240;
export const sgdMomentumKernel = 241;
export const adamwKernel = 242;
export const roundToBf16Kernel = 243;
export const selectBitsKernel = 244;
export const holdUpdatesKernel = 245;
export const transposePackedKernel = 250;
export const sortByExpertKernel = 251;
export const splitOutliersKernel = 252;
export const sparseMatmulKernel = 253;
export const spreadSparseKernel = 254;
