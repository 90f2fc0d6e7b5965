// GGUF over sources that are open already: files, URLs, Blobs; several are the parts of a split model.
//
// Only headers are read when a checkpoint is opened; tensors are read one at a time. Runs in Node and the browser.

import { modelError } from '../errors.ts';
import type { Checkpoint, MetadataValue, TensorInfo } from './checkpoint.ts';
import { type GgufHeader, HeaderIncomplete, maxGgufHeaderBytes, parseGgufHeader } from './gguf-header.ts';
import type { GgufEntry } from './gguf-types.ts';
import type { ByteSource } from './source.ts';
import { tensorReader } from './tensor-reader.ts';

export interface GgufCheckpoint extends Checkpoint {
  readonly container: 'gguf';
  /** The metadata with exact types, in the order of the file: what writeGguf takes. */
  readonly entries: readonly GgufEntry[];
  readonly alignment: number;
}

/** First prefix that is read: enough for most headers without a vocabulary. */
const firstPrefixBytes = 2 ** 20;

/** Reads and checks the header; starts with 1 MiB of the file and doubles that until it is whole. */
export async function readGgufHeader(source: ByteSource): Promise<GgufHeader> {
  const most = Math.min(source.size, maxGgufHeaderBytes);
  let prefix = await source.read(0, Math.min(firstPrefixBytes, most));
  for (;;) {
    try {
      return parseGgufHeader(prefix, source.size, source.name);
    } catch (error) {
      if (!(error instanceof HeaderIncomplete)) throw error;
      const have = prefix.byteLength;
      const longer = new Uint8Array(Math.min(most, Math.max(error.needed, 2 * have)));
      longer.set(prefix);
      // only what is new: the source may be far away
      longer.set(await source.read(have, longer.byteLength - have), have);
      prefix = longer;
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
