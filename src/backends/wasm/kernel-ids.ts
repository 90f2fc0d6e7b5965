// Kernel ids: the numbers by which a command names its kernel.
//
// Shared by the host (encoders) and the AssemblyScript engine (kernels/engine/index.ts switches on them), so this file
// holds plain numeric constants only.

export const noopKernel = 0;
export const fillKernel = 1;

// Matrix products.
export const matmulF32Kernel = 100;
export const matmulIntKernel = 101;
export const packIntKernel = 102;
export const decodeRowsKernel = 103;
