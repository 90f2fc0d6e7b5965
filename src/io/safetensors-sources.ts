// Safetensors over sources that are open already: files, URLs, Blobs.
//
// Only headers are read when a checkpoint is opened; tensors are read one at a time. With an index, tensors that a shard
// holds beyond it are left out, as the Python loaders do. Runs in Node and the browser.

import { modelError } from '../errors.ts';
import type { Checkpoint, TensorInfo } from './checkpoint.ts';
import { parseHeaderLength, parseSafetensorsHeader, type SafetensorsHeader } from './safetensors-header.ts';
import type { ByteSource } from './source.ts';
import { tensorReader } from './tensor-reader.ts';

/** Reads and checks the header of one file; the only bytes read are the header's. */
export async function readSafetensorsHeader(source: ByteSource): Promise<SafetensorsHeader> {
  const prefix = await source.read(0, Math.min(8, source.size));
  const length = parseHeaderLength(prefix, source.size, source.name);
  return parseSafetensorsHeader(await source.read(8, length), source.size, source.name);
}

/**
 * A checkpoint over the sources. Without `weightMap` every tensor of every
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
