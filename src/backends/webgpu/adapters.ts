// The graphics adapters of this machine, in Node.
//
// WebGPU has no list of adapters. Dawn for Node takes one by a part of its name and names all of them when none fits,
// which is how they are listed here. It does not do: browsers, which show one adapter.

import { findGpu } from './gpu.ts';

export interface ListedAdapter {
  /** Vulkan, Metal, …: the interface of the system that Dawn uses. */
  readonly backend: string;
  readonly name: string;
}

const noSuchName = 'no adapter has this name';

/** All adapters, in the order that `webgpu:0`, `webgpu:1`, … count. Throws a device error without WebGPU. */
export async function listAdapters(): Promise<ListedAdapter[]> {
  const gpu = await findGpu({ adapter: noSuchName });
  try {
    await gpu.requestAdapter();
    return [];
  } catch (error) {
    return parseAdapters(error instanceof Error ? error.message : String(error));
  }
}

/** Adapters named in Dawn's message. */
export function parseAdapters(message: string): ListedAdapter[] {
  return [...message.matchAll(/backend: '([^']*)', name: '(.*)'$/gm)]
    .map(([, backend, name]) => ({ backend, name }))
    .filter(({ backend }) => backend !== 'null');
}

/** Whether an adapter computes on the CPU: right, but slower than WebAssembly. */
export const isSoftware = (info: GPUAdapterInfo) =>
  Boolean(info.isFallbackAdapter) || /swiftshader|llvmpipe|warp/i.test(`${info.architecture} ${info.description}`);
