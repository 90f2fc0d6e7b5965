// Whether this machine could have a GPU for WebGPU, told without loading a driver.
//
// Loading Dawn costs a tenth of a second, prints warnings where there is no Vulkan and, with a broken driver, can end
// the process: a choice by itself should not do it in vain.

import { existsSync, readdirSync } from 'node:fs';
import { homedir } from 'node:os';
import path from 'node:path';

/** Why there is no GPU to look for; undefined when there may be one. */
export function whyNoGpu(): string | undefined {
  try {
    import.meta.resolve('webgpu');
  } catch {
    return 'the npm package webgpu is not installed';
  }
  if (process.platform === 'linux' && !hasVulkanDriver(process.env)) return 'no Vulkan driver is installed';
  return undefined;
}

/** A Vulkan driver announces itself by a manifest in one of the loader's folders, or by a variable. */
function hasVulkanDriver(env: NodeJS.ProcessEnv): boolean {
  if (env.VK_DRIVER_FILES || env.VK_ICD_FILENAMES || env.VK_ADD_DRIVER_FILES) return true;
  const shared = (env.XDG_DATA_DIRS || '/usr/local/share:/usr/share').split(':');
  const own = env.XDG_DATA_HOME || path.join(homedir(), '.local/share');
  const folders = ['/etc', '/usr/local/etc', own, ...shared];
  return folders.some((folder) => {
    const icd = path.join(folder, 'vulkan/icd.d');
    return existsSync(icd) && readdirSync(icd).some((name) => name.endsWith('.json'));
  });
}
