// Safetensors checkpoints: one file, or shards with an index.
//
// The index (safetensors-index.ts) decides which tensors the model has. Node only; safetensors-sources.ts has the part
// that browsers can use.

import { readdir, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { modelError } from '../errors.ts';
import type { Checkpoint } from './checkpoint.ts';
import { fileError } from './file-errors.ts';
import { checkIndexSize, parseShardIndex } from './safetensors-index.ts';
import { openSafetensorsSources } from './safetensors-sources.ts';
import { readSidecar } from './sidecar.ts';
import type { ByteSource } from './source.ts';
import { openFile } from './source-file.ts';

/**
 * Opens a safetensors checkpoint: a `.safetensors` file, a `.safetensors.index.json`, or a folder that holds either.
 *
 * Throws a user error when the path is wrong and a model error when a shard is missing or any rule of the format is
 * broken. Close the checkpoint when done.
 *
 * @example const model = await openSafetensors('models/qwen3-6m'); model.tensors.get('model.norm.weight')!.shape
 */
export async function openSafetensors(path: string): Promise<Checkpoint> {
  const file = await resolveFolder(path);
  const folder = dirname(file);
  const weightMap = file.endsWith('.json') ? await readIndex(file) : undefined;
  const files = weightMap ? [...new Set(weightMap.values())] : [file];
  await checkShards(files, weightMap, file);
  const sources: ByteSource[] = [];
  try {
    for (const f of files) sources.push(await openFile(f));
    return await openSafetensorsSources(path, sources, weightMap, (name) => readSidecar(folder, name));
  } catch (error) {
    await Promise.all(sources.map((s) => s.close()));
    throw error;
  }
}

/** The index or single file that a folder stands for. */
async function resolveFolder(path: string): Promise<string> {
  let names: string[];
  try {
    if (!(await stat(path)).isDirectory()) return path;
    names = (await readdir(path)).sort();
  } catch (cause) {
    throw fileError('read safetensors', path, cause);
  }
  const indexes = names.filter((n) => n.endsWith('.safetensors.index.json'));
  const files = names.filter((n) => n.endsWith('.safetensors'));
  for (const preferred of ['model.safetensors.index.json', 'model.safetensors'])
    if (names.includes(preferred)) return join(path, preferred);
  if (indexes.length === 1) return join(path, indexes[0]);
  if (indexes.length === 0 && files.length === 1 && !/-\d{5}-of-\d{5}\.safetensors$/.test(files[0]))
    return join(path, files[0]);
  if (files.length === 0)
    throw modelError({
      code: 'safetensors-none',
      op: 'read safetensors',
      problem: 'the folder holds no .safetensors file',
      file: path,
    });
  throw modelError({
    code: 'safetensors-no-index',
    op: 'read safetensors',
    problem: `the folder holds ${files.length} .safetensors file(s) but no model.safetensors and no single index`,
    file: path,
    fix: 'add model.safetensors.index.json or name one file',
  });
}

/** Tensor name → path of its shard. */
async function readIndex(path: string): Promise<Map<string, string>> {
  const source = await openFile(path);
  try {
    checkIndexSize(source.size, path);
    const shards = parseShardIndex(await source.read(0, source.size), path);
    return new Map([...shards].map(([tensor, shard]) => [tensor, join(dirname(path), shard)]));
  } finally {
    await source.close();
  }
}

/** Names every missing shard at once, before anything is read. */
async function checkShards(
  files: readonly string[],
  weightMap: ReadonlyMap<string, string> | undefined,
  index: string,
): Promise<void> {
  if (!weightMap) return;
  const missing: string[] = [];
  for (const f of files) if (!(await stat(f).catch(() => undefined))) missing.push(f);
  if (missing.length === 0) return;
  const tensor = [...weightMap].find(([, f]) => f === missing[0])![0];
  const others = missing.length > 1 ? ` (and ${missing.length - 1} more)` : '';
  throw modelError({
    code: 'safetensors-missing-shard',
    op: 'read safetensors',
    problem: `shard ${basename(missing[0])}${others} is missing`,
    got: `${files.length - missing.length} shards`,
    expected: `${files.length} by ${basename(index)}`,
    tensor,
    file: missing[0],
    fix: 'download the missing shards into the same folder',
  });
}
