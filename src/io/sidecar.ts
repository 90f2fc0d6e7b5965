// Small files beside the weights: config.json, tokenizer.json and their like (Node only).

import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { modelError } from '../errors.ts';
import { fileError, systemCode } from './file-errors.ts';

/** Larger than any tokenizer.json (the largest published ones have about 35 MB). */
const maxSidecarBytes = 512 * 2 ** 20;

/** Throws a model error for a file that is too large to be read whole. */
export function checkSidecarSize(size: number, file: string): void {
  if (size > maxSidecarBytes)
    throw modelError({
      code: 'sidecar-size',
      op: 'read',
      problem: 'the file is far too large for its purpose',
      got: `${size} bytes`,
      expected: `at most ${maxSidecarBytes}`,
      file,
    });
}

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
