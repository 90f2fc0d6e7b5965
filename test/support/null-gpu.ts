// Dawn's null backend for tests of kernels on tensor cores: it has the features and checks WGSL, but runs nothing.

import type { GpuTraits, TensorCores } from '../../src/backends/webgpu/device.ts';
import { findGpu, keepAlive } from '../../src/backends/webgpu/gpu.ts';

const features = ['shader-f16', 'subgroups', 'chromium-experimental-subgroup-matrix'];

/** What a GPU with tensor cores tells of itself. */
export const tensorCoreTraits = (tensorCores: TensorCores, workgroupBytes = 49_152): GpuTraits => ({
  features: new Set(features),
  bufferBytes: 2 ** 30,
  workgroupBytes,
  workgroupThreads: 1024,
  subgroupMinSize: 32,
  subgroupMaxSize: 32,
  subgroupMatrices: [],
  storageBuffers: 10,
  tensorCores,
});

export async function openNullDevice(): Promise<GPUDevice> {
  const gpu = await findGpu({ backend: 'null' });
  const adapter = keepAlive(await gpu.requestAdapter()) as GPUAdapter;
  return keepAlive(await adapter.requestDevice({ requiredFeatures: features as GPUFeatureName[] }));
}

/** What the compiler says of a text; empty where it is valid. */
export async function wgslProblems(device: GPUDevice, code: string): Promise<string[]> {
  device.pushErrorScope('validation');
  const { messages } = await device.createShaderModule({ code }).getCompilationInfo();
  await device.popErrorScope();
  return messages.map(({ type, lineNum, message }) => `${type} in line ${lineNum}: ${message}`);
}
