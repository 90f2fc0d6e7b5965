// GGUF checkpoints: one file, or the parts of a split model (`name-00001-of-00003.gguf`).
//
// The metadata of a split model stands in its first part; `split.count` says how many there are and
// `split.tensors.count` how many tensors together. Node only; gguf-sources.ts has the part that browsers can use.

import { stat } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import { modelError } from '../errors.ts';
import { type GgufCheckpoint, openGgufSources } from './gguf-sources.ts';
import { readSidecar } from './sidecar.ts';
import type { ByteSource } from './source.ts';
import { openFile } from './source-file.ts';

/**
 * Opens a `.gguf` file. Of a split model any part may be named; the others must lie beside it.
 *
 * Throws a user error when the path is wrong, a model error when a rule of the format is broken or a part is missing.
 *
 * @example const model = await openGguf('model.gguf'); model.metadata.get('general.architecture')
 */
export async function openGguf(path: string): Promise<GgufCheckpoint> {
  const sources: ByteSource[] = [];
  try {
    for (const file of await splitParts(path)) sources.push(await openFile(file));
    return await openGgufSources(path, sources, (name) => readSidecar(dirname(path), name));
  } catch (error) {
    await Promise.all(sources.map((s) => s.close()));
    throw error;
  }
}

async function splitParts(path: string): Promise<string[]> {
  const match = /^(.*)-(\d{5})-of-(\d{5})\.gguf$/.exec(path);
  if (!match) return [path];
  const count = Number(match[3]);
  const parts = Array.from(
    { length: count },
    (_, i) => `${match[1]}-${String(i + 1).padStart(5, '0')}-of-${match[3]}.gguf`,
  );
  for (const part of parts)
    if (part !== path && !(await stat(part).catch(() => undefined)))
      throw modelError({
        code: 'gguf-missing-part',
        op: 'read gguf',
        problem: `part ${basename(part)} of the split model is missing`,
        expected: `${count} parts`,
        file: part,
        fix: 'download all parts into the same folder',
      });
  return parts.length > 0 ? parts : [path];
}
