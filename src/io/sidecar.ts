// Small files beside the weights: config.json, tokenizer.json and their like (Node only).

import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { fileError, systemCode } from './file-errors.ts';
import { checkSidecarSize } from './sidecar-size.ts';

/** The bytes of `folder/fileName`, or undefined when there is no such file. */
export async function readSidecar(folder: string, fileName: string): Promise<Uint8Array | undefined> {
  const path = join(folder, fileName);
  try {
    const { size } = await stat(path);
    checkSidecarSize(size, path);
    return new Uint8Array(await readFile(path));
  } catch (cause) {
    if (systemCode(cause) === 'ENOENT') return undefined;
    throw fileError('read', path, cause);
  }
}
