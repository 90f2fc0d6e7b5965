// Where an output goes: the folder is made, and nothing that is not ours is written over.

import { readdir, realpath, rename } from 'node:fs/promises';
import path from 'node:path';
import { SubbyteError, userError } from '../errors.ts';
import type { Checkpoint } from '../io/checkpoint.ts';
import { systemCode } from '../io/file-errors.ts';
import { makeFolder } from '../io/make-folder.ts';
import { openCheckpoint } from '../io/open.ts';

/** Makes a folder for output; a user error when that is impossible. */
export async function makeOutputFolder(folder: string, op: string): Promise<void> {
  try {
    await makeFolder(folder);
  } catch (cause) {
    throw userError(
      {
        code: 'out-folder',
        op,
        problem: `the output folder cannot be made: ${systemCode(cause) ?? String(cause)}`,
        file: folder,
        fix: `give ${op === 'convert' ? 'an output' : '--out a folder'} that you can write to`,
      },
      { cause },
    );
  }
}

/**
 * Throws when writing to `target` (a .gguf file, or a folder for safetensors) would damage the source, or would mix
 * with the weights of another model: programs that load a folder read every .safetensors file in it.
 */
export async function checkTarget(target: string, source: Checkpoint, op: string): Promise<void> {
  const place = await realpath(target).catch(() => undefined);
  if (place === undefined) return;
  const sources = await Promise.all(
    [...new Set([...source.tensors.values()].map((t) => t.file))].map((file) => realpath(file).catch(() => file)),
  );
  if (sources.some((file) => file === place || path.dirname(file) === place))
    throw userError({
      code: 'output-is-source',
      op,
      problem: 'the output would be written over the model that it is made from',
      file: target,
      fix: op === 'convert' ? 'name another output' : 'give another --out or --name',
    });
  const names = await readdir(place).catch(() => []);
  const foreign = names.find((name) => name.endsWith('.safetensors'));
  if (foreign === undefined || (await madeBySubbyte(place))) return;
  throw userError({
    code: 'output-occupied',
    op,
    problem: `the output folder holds the weights of another model, ${foreign}`,
    file: target,
    fix: op === 'convert' ? 'name another folder, or empty this one' : 'give another --out or --name, or empty it',
  });
}

/** A file that is not what was meant must not be taken for one, by people or by a later run: it loses its name. */
export async function rejectOutput(target: string, error: unknown): Promise<void> {
  if (error instanceof SubbyteError && error.details.code === 'output-differs')
    await rename(target, `${target}.rejected`);
}

async function madeBySubbyte(folder: string): Promise<boolean> {
  // what cannot be read is nobody's model
  const checkpoint = await openCheckpoint(folder).catch(() => undefined);
  if (!checkpoint) return false;
  const ours = checkpoint.metadata.has('subbyte.fingerprint');
  await checkpoint.close();
  return ours;
}
