// Writes GGUF version 3 files, streaming tensor by tensor.
//
// Tensors keep the caller's order, each padded with zeros to the alignment (the last one too, as the reference writer
// does). The header is gguf-print.ts's. Node only.

import { type GgufTensorInfo, printGgufHeader } from './gguf-print.ts';
import { alignUp, defaultAlignment, type GgufEntry } from './gguf-types.ts';
import type { WrittenFiles } from './safetensors-writer.ts';
import { type StreamOptions, streamTensors, type TensorData } from './tensor-writer.ts';

export interface GgufTensor extends TensorData, GgufTensorInfo {}

export interface WriteGgufOptions extends StreamOptions {
  path: string;
  /** In order, `general.architecture` first by convention. */
  metadata: readonly GgufEntry[];
  tensors: readonly GgufTensor[];
  /** Power of two; default 32. Any other value is written as `general.alignment` unless the metadata has it. */
  alignment?: number;
}

/**
 * Writes one file; resolves when it is whole, flushed and named.
 *
 * Throws a user error for metadata or tensors that GGUF cannot hold and for paths that cannot be written, a device
 * error when the disk is full, `interrupted` when the signal aborts.
 *
 * @example
 * await writeGguf({ path: 'x.gguf', metadata: [{ key: 'general.architecture', type: 'string', value: 'llama' }],
 *   tensors: [{ name: 'w', dtype: 'F32', shape: [1], byteLength: 4, data: async () => new Uint8Array(4) }] });
 */
export async function writeGguf(options: WriteGgufOptions): Promise<WrittenFiles> {
  const { path, tensors } = options;
  const alignment = options.alignment ?? defaultAlignment;
  const header = printGgufHeader(options.metadata, tensors, alignment, path);
  const counter = { next: 0, count: tensors.length };
  const out = await streamTensors({ path, header, tensors, alignment }, options, counter);
  await out.publish();
  return { files: [path], bytes: tensors.reduce((n, t) => n + alignUp(t.byteLength, alignment), header.byteLength) };
}
