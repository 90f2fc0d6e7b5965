// Safetensors checkpoints: one file, or shards with an index.
//
// Only headers are read when a checkpoint is opened; tensors are read one at a time. The index
// (`model.safetensors.index.json`: { metadata, weight_map: { tensor: file } }) decides which tensors the model has;
// tensors that a shard holds beyond it are left out, as the Python loaders do. Node only, except openSafetensorsSources.

import { readdir, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { modelError } from '../errors.ts';
import type { Checkpoint, TensorInfo } from './checkpoint.ts';
import { fileError } from './file-errors.ts';
import { parseHeaderLength, parseSafetensorsHeader, type SafetensorsHeader } from './safetensors-header.ts';
import { readSidecar } from './sidecar.ts';
import type { ByteSource } from './source.ts';
import { openFile } from './source-file.ts';
import { tensorReader } from './tensor-reader.ts';

/** The most bytes that a shard index may have; real ones stay below 20 MB. */
const maxIndexBytes = 256 * 2 ** 20;

/** Reads and checks the header of one file; the only bytes read are the header's. */
export async function readSafetensorsHeader(source: ByteSource): Promise<SafetensorsHeader> {
  const prefix = await source.read(0, Math.min(8, source.size));
  const length = parseHeaderLength(prefix, source.size, source.name);
  return parseSafetensorsHeader(await source.read(8, length), source.size, source.name);
}

/**
 * A checkpoint over sources that are open already (browser: Blobs, HTTP). Without `weightMap` every tensor of every
 * source belongs to the model and a name in two sources is an error.
 */
export async function openSafetensorsSources(
  location: string,
  sources: readonly ByteSource[],
  weightMap?: ReadonlyMap<string, string>,
  sidecar: Checkpoint['sidecar'] = async () => undefined,
): Promise<Checkpoint> {
  const tensors = new Map<string, TensorInfo>();
  const metadata = new Map<string, string>();
  const byFile = new Map(sources.map((s) => [s.name, s]));
  for (const source of sources) {
    const header = await readSafetensorsHeader(source);
    for (const [key, value] of header.metadata) metadata.set(key, value);
    for (const tensor of header.tensors) {
      if (weightMap && weightMap.get(tensor.name) !== source.name) continue;
      const other = tensors.get(tensor.name);
      if (other)
        throw modelError({
          code: 'safetensors-duplicate',
          op: 'read safetensors',
          problem: `two files hold the same tensor, the other is ${other.file}`,
          tensor: tensor.name,
          file: source.name,
        });
      tensors.set(tensor.name, tensor);
    }
  }
  for (const [name, file] of weightMap ?? [])
    if (!tensors.has(name))
      throw modelError({
        code: 'safetensors-missing-tensor',
        op: 'read safetensors',
        problem: 'the index promises a tensor that the shard does not hold',
        tensor: name,
        file,
        fix: 'download the shard again, or the index that belongs to it',
      });
  return {
    container: 'safetensors',
    location,
    tensors,
    metadata,
    ...tensorReader('read safetensors', tensors, byFile),
    sidecar,
  };
}

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

/** Tensor name → path of its shard. Shards must lie beside the index. */
async function readIndex(path: string): Promise<Map<string, string>> {
  const fail = (problem: string, more: object = {}): never => {
    throw modelError({ code: 'safetensors-index', op: 'read safetensors', problem, file: path, ...more });
  };
  const source = await openFile(path);
  let parsed: unknown;
  try {
    if (source.size > maxIndexBytes) fail('the shard index is too large', { got: `${source.size} bytes` });
    parsed = JSON.parse(new TextDecoder().decode(await source.read(0, source.size)));
  } catch (cause) {
    if (cause instanceof SyntaxError) fail(`the shard index is no valid JSON (${cause.message.slice(0, 120)})`);
    throw cause;
  } finally {
    await source.close();
  }
  const map = (parsed as { weight_map?: unknown } | null)?.weight_map;
  if (typeof map !== 'object' || map === null || Array.isArray(map))
    return fail('the shard index has no weight_map') as never;
  const weightMap = new Map<string, string>();
  for (const [tensor, shard] of Object.entries(map)) {
    if (typeof shard !== 'string' || shard === '' || basename(shard) !== shard || shard.includes('\\'))
      fail('the index names a shard that is no plain file name', { tensor, got: JSON.stringify(shard) });
    weightMap.set(tensor, join(dirname(path), shard as string));
  }
  return weightMap;
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
