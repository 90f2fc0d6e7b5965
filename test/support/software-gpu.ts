// WebGPU in Node without a GPU: SwiftShader, a software Vulkan (chromium-package.ts).
//
// The Vulkan loader is opened here, so that Dawn, which asks for it by name, gets this one; the loader finds SwiftShader
// through VK_DRIVER_FILES. Set SUBBYTE_TEST_ADAPTER=device to test on the machine's own GPU instead.

import path from 'node:path';
import koffi from 'koffi';
import { createWebgpuBackend, type WebgpuBackend, type WebgpuOptions } from '../../src/backends/webgpu/backend.ts';
import { findGpu } from '../../src/backends/webgpu/gpu.ts';
import { missingChromiumPackage, unpackChromium } from './chromium-package.ts';
import { knownFragments } from './null-gpu.ts';
import { withTensorCores } from './tensor-core-gpu.ts';

/** Why WebGPU cannot be tested here, for the name of the skipped tests; undefined when it can. */
export function missingGpu(): string | undefined {
  return process.env.SUBBYTE_TEST_ADAPTER === 'device' ? undefined : missingChromiumPackage();
}

const unpack = () => unpackChromium('swiftshader', ['swiftshader.tar']);

/** Variables that let a child process find SwiftShader. */
export function softwareGpuVariables(): Record<string, string> {
  const folder = unpack();
  const driver = path.join(folder, 'vk_swiftshader_icd.json');
  return { VK_DRIVER_FILES: driver, VK_ICD_FILENAMES: driver, LD_LIBRARY_PATH: folder };
}

let loader: unknown;

/** SwiftShader compiles this extension's zeroing of workgroup memory number by number, seconds a kernel; Dawn writes a loop. */
const slow = 'use_vulkan_zero_initialize_workgroup_memory_extension';

/** Makes SwiftShader the GPU that Dawn finds, unless the machine's own is wanted; the toggles to turn off. */
function softwareToggles(disabled: readonly string[] = []): string[] {
  if (process.env.SUBBYTE_TEST_ADAPTER !== 'device' && !loader) {
    const folder = unpack();
    process.env.VK_DRIVER_FILES = path.join(folder, 'vk_swiftshader_icd.json');
    process.env.VK_ICD_FILENAMES = process.env.VK_DRIVER_FILES;
    loader = koffi.load(path.join(folder, 'libvulkan.so.1'), { global: true });
  }
  return [...disabled, slow];
}

/** A backend on SwiftShader, or on the machine's GPU when SUBBYTE_TEST_ADAPTER=device. */
export async function createTestBackend(options: WebgpuOptions = {}): Promise<WebgpuBackend> {
  return createWebgpuBackend({ ...options, disableToggles: softwareToggles(options.disableToggles) });
}

/** The same GPU with emulated tensor cores (emulate-tensor-cores.ts), also where it has real ones. */
export async function openEmulatedGpu(options: WebgpuOptions = {}, fragments = knownFragments[0]): Promise<GPU> {
  const gpu = await findGpu({ ...options, disableToggles: softwareToggles(options.disableToggles) });
  return withTensorCores(gpu, fragments);
}

/** A backend on it. */
export async function createEmulatedBackend(
  options: WebgpuOptions = {},
  fragments = knownFragments[0],
): Promise<WebgpuBackend> {
  const value = await openEmulatedGpu(options, fragments);
  // where the backend looks first
  Object.defineProperty(globalThis.navigator, 'gpu', { value, configurable: true });
  try {
    return await createWebgpuBackend(options);
  } finally {
    Reflect.deleteProperty(globalThis.navigator, 'gpu');
  }
}
