// WebGPU without a GPU: SwiftShader, a software Vulkan, from the npm package @sparticuz/chromium (Linux x64).
//
// Its archive is unpacked once into node_modules/.cache. The Vulkan loader is opened here, so that Dawn, which asks for
// it by name, gets this one; the loader finds SwiftShader through VK_DRIVER_FILES. Set SUBBYTE_TEST_ADAPTER=device to
// test on the machine's own GPU instead.

import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { brotliDecompressSync } from 'node:zlib';
import koffi from 'koffi';
import { createWebgpuBackend, type WebgpuBackend, type WebgpuOptions } from '../../src/backends/webgpu/backend.ts';

const modules = fileURLToPath(new URL('../../node_modules', import.meta.url));
const archive = path.join(modules, '@sparticuz/chromium/bin/swiftshader.tar.br');

/** Why WebGPU cannot be tested here, for the name of the skipped tests; undefined when it can. */
export function missingGpu(): string | undefined {
  if (process.env.SUBBYTE_TEST_ADAPTER === 'device') return undefined;
  if (process.platform !== 'linux' || process.arch !== 'x64') return 'SwiftShader is packaged for Linux x64 only';
  return existsSync(archive) ? undefined : '@sparticuz/chromium is not installed';
}

/** The files of a tar archive (plain files only, which is all that this one holds). */
function* tarFiles(tar: Buffer): Generator<[name: string, data: Buffer]> {
  for (let at = 0; tar[at] !== 0 && at < tar.length; ) {
    const field = (offset: number, length: number) =>
      tar.toString('latin1', at + offset, at + offset + length).replace(/\0.*$/s, '');
    const size = Number.parseInt(field(124, 12), 8);
    yield [field(0, 100), tar.subarray(at + 512, at + 512 + size)];
    at += 512 * (1 + Math.ceil(size / 512));
  }
}

function unpack(): string {
  const version = JSON.parse(readFileSync(path.join(modules, '@sparticuz/chromium/package.json'), 'utf8')).version;
  const folder = path.join(modules, '.cache', `swiftshader-${version}`);
  if (existsSync(folder)) return folder;
  const partial = `${folder}.${process.pid}`;
  mkdirSync(partial, { recursive: true });
  for (const [name, data] of tarFiles(brotliDecompressSync(readFileSync(archive))))
    writeFileSync(path.join(partial, path.basename(name)), data, { mode: 0o755 });
  try {
    renameSync(partial, folder);
  } catch (error) {
    if (!existsSync(folder)) throw error; // else another test was faster
  }
  return folder;
}

/** Variables that let a child process find SwiftShader. */
export function softwareGpuVariables(): Record<string, string> {
  const folder = unpack();
  const driver = path.join(folder, 'vk_swiftshader_icd.json');
  return { VK_DRIVER_FILES: driver, VK_ICD_FILENAMES: driver, LD_LIBRARY_PATH: folder };
}

let loader: unknown;

/** A backend on SwiftShader, or on the machine's GPU when SUBBYTE_TEST_ADAPTER=device. */
export async function createTestBackend(options: WebgpuOptions = {}): Promise<WebgpuBackend> {
  if (process.env.SUBBYTE_TEST_ADAPTER !== 'device' && !loader) {
    const folder = unpack();
    process.env.VK_DRIVER_FILES = path.join(folder, 'vk_swiftshader_icd.json');
    process.env.VK_ICD_FILENAMES = process.env.VK_DRIVER_FILES;
    loader = koffi.load(path.join(folder, 'libvulkan.so.1'), { global: true });
  }
  return createWebgpuBackend(options);
}
