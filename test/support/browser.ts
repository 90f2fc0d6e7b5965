// Headless Chromium for tests of the browser side (chromium-package.ts), driven by playwright-core.

import path from 'node:path';
import { type Browser, chromium } from 'playwright-core';
import { unpackChromium } from './chromium-package.ts';

/** What makes Chromium offer WebGPU on SwiftShader, which by itself it does not. */
export const webgpuFlags = ['--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader', '--enable-features=Vulkan'];

/** Starts the browser, its own libraries beside it; close it after use. */
export function startBrowser(flags: readonly string[]): Promise<Browser> {
  // al2023 has the system libraries (NSS, Expat) that a small machine lacks.
  const folder = unpackChromium('chromium', ['chromium', 'swiftshader.tar', 'al2023.tar']);
  return chromium.launch({
    executablePath: path.join(folder, 'chromium'),
    args: ['--no-sandbox', ...flags],
    env: { ...process.env, LD_LIBRARY_PATH: folder },
  });
}
