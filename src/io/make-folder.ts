// Folders with their parents (Node only).

import { mkdir, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { systemCode } from './file-errors.ts';

/**
 * Creates a folder and its missing parents; nothing happens when it exists.
 *
 * Not `mkdir(path, { recursive: true })`: where the system answers ENOENT although the parent exists (below /proc),
 * Node's version tries for ever. Rejects with the system's error.
 */
export async function makeFolder(path: string): Promise<void> {
  try {
    await mkdir(path);
  } catch (cause) {
    if (systemCode(cause) === 'EEXIST' && (await stat(path)).isDirectory()) return;
    const parent = dirname(path);
    if (systemCode(cause) !== 'ENOENT' || parent === path) throw cause;
    // somebody else may have made the parent in between, and the folder too; where it is not that, the system says so again
    if (!(await stat(parent).catch(() => undefined))) await makeFolder(parent);
    await mkdir(path).catch((error) => {
      if (systemCode(error) !== 'EEXIST') throw error;
    });
  }
}
