// Dawn's null backend for tests of kernels on tensor cores: it has the features and checks WGSL, but runs nothing.

import type { GpuTraits, TensorCores } from '../../src/backends/webgpu/device.ts';
import type { Fragments, SubgroupMatrix } from '../../src/backends/webgpu/fragments.ts';
import { findGpu, keepAlive } from '../../src/backends/webgpu/gpu.ts';

const features = ['shader-f16', 'subgroups', 'chromium-experimental-subgroup-matrix'];

/** Matrices of adapters that are known: NVIDIA's, Apple's, lavapipe's. */
export const knownFragments: readonly Fragments[] = [
  { edge: 16, lanes: 32 },
  { edge: 8, lanes: 32 },
  { edge: 8, lanes: 8 },
];

const matrices = (edge: number): SubgroupMatrix[] => [
  { componentType: 'f16', resultComponentType: 'f32', M: edge, N: edge, K: edge },
  { componentType: 'i8', resultComponentType: 'i32', M: edge, N: edge, K: edge === 16 ? 32 : 8 },
];

/** What a GPU with tensor cores tells of itself. */
export const tensorCoreTraits = (
  tensorCores: TensorCores,
  workgroupBytes = 49_152,
  { edge, lanes }: Fragments = knownFragments[0],
): GpuTraits => ({
  features: new Set(features),
  bufferBytes: 2 ** 30,
  workgroupBytes,
  workgroupThreads: 1024,
  subgroupMinSize: lanes,
  subgroupMaxSize: lanes,
  subgroupMatrices: matrices(edge),
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
