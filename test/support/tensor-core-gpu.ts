// A GPU that seems to have f16, subgroups and their products of f16 matrices, of 16 × 16 also i8: any GPU, whose kernels
// are rewritten when their modules are made (emulate-tensor-cores.ts).

import type { Fragments } from '../../src/backends/webgpu/fragments.ts';
import { emulateTensorCores } from './emulate-tensor-cores.ts';

const emulated = ['shader-f16', 'subgroups', 'chromium-experimental-subgroup-matrix'];
const products = (edge: number) => [
  { componentType: 'f16', resultComponentType: 'f32', M: edge, N: edge, K: edge },
  ...(edge === 16 ? [{ componentType: 'i8', resultComponentType: 'i32', M: 16, N: 16, K: 32 }] : []),
];

/** The same object, whose adapters and devices emulate. */
export function withTensorCores(gpu: GPU, fragments: Fragments): GPU {
  const request = gpu.requestAdapter.bind(gpu);
  gpu.requestAdapter = async (options) => {
    const adapter = await request(options);
    return adapter && emulatingAdapter(adapter, fragments);
  };
  return gpu;
}

function emulatingAdapter(adapter: GPUAdapter, fragments: Fragments): GPUAdapter {
  const { edge, lanes } = fragments;
  const { vendor, architecture, device, description, isFallbackAdapter } = adapter.info;
  const known = { vendor, architecture, device, description, isFallbackAdapter };
  const subgroups = { subgroupMinSize: lanes, subgroupMaxSize: lanes, subgroupMatrixConfigs: products(edge) };
  Object.defineProperty(adapter, 'info', { value: { ...known, ...subgroups } });
  Object.defineProperty(adapter, 'features', { value: new Set([...adapter.features, ...emulated]) });
  const open = adapter.requestDevice.bind(adapter);
  adapter.requestDevice = async (descriptor = {}) => {
    const features = [...(descriptor.requiredFeatures ?? [])].filter((name) => !emulated.includes(name));
    const opened = await open({ ...descriptor, requiredFeatures: features });
    const create = opened.createShaderModule.bind(opened);
    opened.createShaderModule = (module) => create({ ...module, code: emulateTensorCores(module.code, fragments) });
    return opened;
  };
  return adapter;
}
