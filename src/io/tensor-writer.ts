// The part of writing that safetensors and GGUF share: a header, then tensor after tensor with padding, streamed into
// a partial file. At most one chunk that a tensor's `data` gives is in memory.

import { SubbyteError } from '../errors.ts';
import { openPartial, type PartialFile } from './partial-file.ts';

/** What a writer needs of a tensor's content. */
export interface TensorData {
  readonly name: string;
  /** Bytes that `data` gives in total. */
  readonly byteLength: number;
  /** Called when the tensor's turn comes, in the order of the file, and never for tensors that are written already. */
  data(): Promise<Uint8Array> | AsyncIterable<Uint8Array>;
}

/** Told after every tensor that is on its way to the disk; `resumed` for those that an earlier run wrote. */
export interface TensorWritten {
  readonly name: string;
  readonly index: number;
  readonly count: number;
  readonly byteLength: number;
  readonly resumed: boolean;
}

export interface StreamOptions {
  /** Continue an earlier run that gave the same string; see partial-file.ts. */
  fingerprint?: string;
  onTensor?: (written: TensorWritten) => void;
  /** Stops between chunks with an error of kind `interrupted`. */
  signal?: AbortSignal;
}

export interface TensorFile {
  path: string;
  header: Uint8Array;
  tensors: readonly TensorData[];
  /** Each tensor is padded with zeros to a multiple of this. */
  alignment: number;
}

/**
 * Writes a file up to its partial name; `publish` of the result gives it its final one, so that a set of shards can
 * appear together.
 */
export async function streamTensors(
  file: TensorFile,
  options: StreamOptions,
  counter: { next: number; count: number },
): Promise<PartialFile> {
  const { path, header, tensors, alignment } = file;
  const padding = (n: number) => (alignment - (n % alignment)) % alignment;
  const totalBytes = tensors.reduce((n, t) => n + t.byteLength + padding(t.byteLength), header.byteLength);
  const out = await openPartial({ path, totalBytes, fingerprint: options.fingerprint, layout: header });
  try {
    if (out.partsDone === 0) {
      await out.write(header);
      await out.endPart();
    }
    for (const [i, tensor] of tensors.entries()) {
      const { name, byteLength } = tensor;
      const resumed = i + 1 < out.partsDone;
      if (!resumed) {
        await writeTensor(out, tensor, path, options.signal);
        await out.write(new Uint8Array(padding(byteLength)));
        await out.endPart();
      }
      options.onTensor?.({ name, index: counter.next++, count: counter.count, byteLength, resumed });
    }
    await out.seal();
    return out;
  } catch (error) {
    await out.fail(error);
    throw error;
  }
}

async function writeTensor(
  out: PartialFile,
  tensor: TensorData,
  path: string,
  signal: AbortSignal | undefined,
): Promise<void> {
  let total = 0;
  for await (const chunk of chunks(tensor)) {
    checkAbort(signal, path);
    await out.write(chunk);
    total += chunk.byteLength;
  }
  checkAbort(signal, path);
  if (total !== tensor.byteLength)
    throw new Error(`write: tensor ${tensor.name} gave ${total} bytes, ${tensor.byteLength} were announced`);
}

async function* chunks(tensor: TensorData): AsyncIterable<Uint8Array> {
  const data = tensor.data();
  if (Symbol.asyncIterator in data) yield* data;
  else yield await data;
}

function checkAbort(signal: AbortSignal | undefined, path: string): void {
  if (!signal?.aborted) return;
  throw new SubbyteError('interrupted', {
    code: 'write-interrupted',
    op: 'write',
    problem: 'interrupted before the file was whole',
    file: path,
    fix: 'run the same command again to continue',
  });
}
