// GGUF checkpoints: one file, or the parts of a split model (`name-00001-of-00003.gguf`).
//
// The metadata of a split model stands in its first part; `split.count` says how many there are and
// `split.tensors.count` how many tensors together. Tensors are read one at a time.

import { stat } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import { modelError } from '../errors.ts';
import type { Checkpoint, MetadataValue, TensorInfo } from './checkpoint.ts';
import { type GgufHeader, HeaderIncomplete, maxGgufHeaderBytes, parseGgufHeader } from './gguf-header.ts';
import type { GgufEntry } from './gguf-types.ts';
import { readSidecar } from './sidecar.ts';
import type { ByteSource } from './source.ts';
import { openFile } from './source-file.ts';
import { tensorReader } from './tensor-reader.ts';

export interface GgufCheckpoint extends Checkpoint {
  readonly container: 'gguf';
  /** The metadata with exact types, in the order of the file: what writeGguf takes. */
  readonly entries: readonly GgufEntry[];
  readonly alignment: number;
}

/** First prefix that is read: enough for most headers without a vocabulary. */
const firstPrefixBytes = 2 ** 20;

/** Reads and checks the header; reads no more of the file than twice the header, and 1 MiB at least. */
export async function readGgufHeader(source: ByteSource): Promise<GgufHeader> {
  const most = Math.min(source.size, maxGgufHeaderBytes);
  let length = Math.min(firstPrefixBytes, most);
  for (;;) {
    const prefix = await source.read(0, length);
    try {
      return parseGgufHeader(prefix, source.size, source.name);
    } catch (error) {
      if (!(error instanceof HeaderIncomplete)) throw error;
      length = Math.min(most, Math.max(error.needed, 2 * length));
    }
  }
}

/** A checkpoint over open sources, the parts of a split model in order. */
export async function openGgufSources(
  location: string,
  sources: readonly ByteSource[],
  sidecar: Checkpoint['sidecar'] = async () => undefined,
): Promise<GgufCheckpoint> {
  const tensors = new Map<string, TensorInfo>();
  const headers: GgufHeader[] = [];
  for (const source of sources) {
    const header = await readGgufHeader(source);
    headers.push(header);
    for (const tensor of header.tensors) {
      if (tensors.has(tensor.name))
        throw modelError({
          code: 'gguf-duplicate-tensor',
          op: 'read gguf',
          problem: 'two parts of the model hold the same tensor',
          tensor: tensor.name,
          file: source.name,
        });
      tensors.set(tensor.name, tensor);
    }
  }
  const { entries, alignment } = headers[0];
  const metadata = new Map<string, MetadataValue>(entries.map((e) => [e.key, e.value]));
  const promised = metadata.get('split.tensors.count');
  if (sources.length > 1 && promised !== undefined && Number(promised) !== tensors.size)
    throw modelError({
      code: 'gguf-split-tensors',
      op: 'read gguf',
      problem: 'the parts do not hold the tensors that split.tensors.count promises',
      got: tensors.size,
      expected: String(promised),
      file: sources[0].name,
    });
  return {
    container: 'gguf',
    location,
    tensors,
    metadata,
    entries,
    alignment,
    ...tensorReader('read gguf', tensors, new Map(sources.map((s) => [s.name, s]))),
    sidecar,
  };
}

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
