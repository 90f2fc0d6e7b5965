// Kernel ids: the numbers by which a command names its kernel.
//
// Shared by the host (encoders) and the AssemblyScript engine (kernels/engine/index.ts switches on them), so this file
// holds plain numeric constants only.

export const noopKernel = 0;
export const fillKernel = 1;
