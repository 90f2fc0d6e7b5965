// A GPU that seems to have f16, subgroups of 32 and 16 × 16 × 16 products of f16: any GPU, whose kernels are rewritten
// when their modules are made (emulate-tensor-cores.ts).

import { emulateTensorCores } from './emulate-tensor-cores.ts';

const emulated = ['shader-f16', 'subgroups', 'chromium-experimental-subgroup-matrix'];
const products = [{ componentType: 'f16', resultComponentType: 'f32', M: 16, N: 16, K: 16 }];

/** The same object, whose adapters and devices emulate. */
export function withTensorCores(gpu: GPU): GPU {
  const request = gpu.requestAdapter.bind(gpu);
  gpu.requestAdapter = async (options) => {
    const adapter = await request(options);
    return adapter && emulatingAdapter(adapter);
  };
  return gpu;
}

function emulatingAdapter(adapter: GPUAdapter): GPUAdapter {
  const { vendor, architecture, device, description, isFallbackAdapter } = adapter.info;
  const known = { vendor, architecture, device, description, isFallbackAdapter };
  const subgroups = { subgroupMinSize: 32, subgroupMaxSize: 32, subgroupMatrixConfigs: products };
  Object.defineProperty(adapter, 'info', { value: { ...known, ...subgroups } });
  Object.defineProperty(adapter, 'features', { value: new Set([...adapter.features, ...emulated]) });
  const open = adapter.requestDevice.bind(adapter);
  adapter.requestDevice = async (descriptor = {}) => {
    const features = [...(descriptor.requiredFeatures ?? [])].filter((name) => !emulated.includes(name));
    const opened = await open({ ...descriptor, requiredFeatures: features });
    const create = opened.createShaderModule.bind(opened);
    opened.createShaderModule = (module) => create({ ...module, code: emulateTensorCores(module.code) });
    return opened;
  };
  return adapter;
}
