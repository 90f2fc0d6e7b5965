// WebGPU as browsers have it, in Node: navigator.gpu and the constants, from the npm package `webgpu` (Dawn).
//
// Libraries that are written for browsers then run here, on the same adapter and with the same toggles as subbyte, whose
// backend takes navigator.gpu where there is one.

export interface ShimOptions {
  /** Bounds checks in the kernels of everybody (default true, as in browsers). */
  robustness?: boolean;
  /** Dawn's backend, such as `null`, which validates and runs nothing. */
  backend?: string;
}

const toggles = ['allow_unsafe_apis', 'vulkan_enable_f16_on_nvidia'];

/** Throws where the package or a driver is missing. */
export async function installWebgpu({ robustness = true, backend }: ShimOptions = {}): Promise<GPU> {
  const name: string = 'webgpu';
  const { create, globals } = await import(name);
  const enabled = [...toggles, ...(robustness ? [] : ['disable_robustness'])];
  const flags = [`enable-dawn-features=${enabled.join(',')}`];
  if (backend) flags.push(`backend=${backend}`);
  const gpu: GPU = create(flags);
  Object.assign(globalThis, globals);
  // the property also keeps the object alive, without which Dawn crashes later
  Object.defineProperty(globalThis.navigator, 'gpu', { value: gpu, configurable: true });
  return gpu;
}
