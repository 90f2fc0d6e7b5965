// Where WebGPU comes from: navigator.gpu in browsers, the npm package `webgpu` (Dawn) in Node.

import { deviceError, type SubbyteError } from '../../errors.ts';

/** What the npm package `webgpu` exports. */
interface DawnModule {
  create(options: string[]): GPU;
}

export interface GpuOptions {
  /** Bounds checks in kernels (default true). False needs kernels whose indexing was tested with them; Node only. */
  robustness?: boolean;
  /** More Dawn toggles to enable or disable; Node only. */
  enableToggles?: readonly string[];
  disableToggles?: readonly string[];
  /** Part of the name of the adapter to take; Node only. */
  adapter?: string;
  /** Dawn's backend: `vulkan`, `metal`, `d3d12`, or `null`, which validates and runs nothing; Node only. */
  backend?: string;
}

// Without vulkan_enable_f16_on_nvidia there is no shader-f16 on NVIDIA; subgroup matrices count as unsafe.
const defaultToggles = ['allow_unsafe_apis', 'vulkan_enable_f16_on_nvidia'];

/** Everything that create() made stays alive: when it is collected, Dawn crashes later, far from the cause. */
const alive: unknown[] = [];

/** Keeps a native object for the life of the process. */
export function keepAlive<T>(object: T): T {
  alive.push(object);
  return object;
}

/** Throws a device error when there is no WebGPU, naming the command that installs it in Node. */
export async function findGpu(options: GpuOptions = {}): Promise<GPU> {
  const browser = globalThis.navigator?.gpu;
  if (browser) return browser;
  if (typeof process === 'undefined' || !process.versions?.node) throw noWebgpu('this browser has no WebGPU');
  // A variable, so that neither TypeScript nor a browser's bundler looks for the optional package.
  const name: string = 'webgpu';
  const { create } = await loadDawn(() => import(/* @vite-ignore */ name));
  const { robustness = true, enableToggles = [], disableToggles = [], adapter, backend } = options;
  const enabled = [...defaultToggles, ...(robustness ? [] : ['disable_robustness']), ...enableToggles];
  const flags = [`enable-dawn-features=${enabled.join(',')}`];
  if (disableToggles.length > 0) flags.push(`disable-dawn-features=${disableToggles.join(',')}`);
  if (adapter) flags.push(`adapter=${adapter}`);
  if (backend) flags.push(`backend=${backend}`);
  return keepAlive(create(flags));
}

/** What `load` imports, or a device error that says what to install. */
export async function loadDawn(load: () => Promise<DawnModule>): Promise<DawnModule> {
  try {
    return await load();
  } catch (cause) {
    const missing = (cause as NodeJS.ErrnoException).code === 'ERR_MODULE_NOT_FOUND';
    if (missing) throw noWebgpu('the npm package webgpu is not installed', 'run npm install webgpu', { cause });
    const reason = cause instanceof Error ? cause.message.split('\n')[0] : String(cause);
    throw noWebgpu(`the npm package webgpu cannot be loaded (${reason})`, 'run npm install webgpu@latest', { cause });
  }
}

function noWebgpu(problem: string, fix?: string, options?: ErrorOptions): SubbyteError {
  return deviceError(
    { code: 'webgpu-missing', op: 'webgpu', problem, fix: fix ?? 'update the browser, or choose the wasm backend' },
    options,
  );
}
