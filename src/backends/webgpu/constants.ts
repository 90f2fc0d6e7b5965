// Bits of the WebGPU interface (https://www.w3.org/TR/webgpu/): Node has no global GPUBufferUsage and its like.

export const bufferUsage = {
  mapRead: 0x0001,
  copySource: 0x0004,
  copyTarget: 0x0008,
  uniform: 0x0040,
  storage: 0x0080,
} as const;
export const mapRead = 0x0001;
export const computeStage = 0x4;
/** Offsets of bindings are multiples of this on every adapter (the default limit, which no adapter exceeds). */
export const bindingAlignment = 256;
/** Workgroups along one dimension of a dispatch, on every adapter. */
export const mostWorkgroups = 65535;

/** `bytes` rounded up to a place where a binding may start. */
export const alignedBytes = (bytes: number) => Math.ceil(bytes / bindingAlignment) * bindingAlignment;
