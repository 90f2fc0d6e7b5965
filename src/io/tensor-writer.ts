// The part of writing that safetensors and GGUF share: a header, then tensor after tensor with padding, streamed into
// a partial file. While a chunk is written, the next one is made, of the next tensor too: at most two are in memory.

import { SubbyteError } from '../errors.ts';
import { openPartial, type PartialFile } from './partial-file.ts';
import { readAhead } from './read-ahead.ts';

/** What a writer needs of a tensor's content. */
export interface TensorData {
  readonly name: string;
  /** Bytes that `data` gives in total. */
  readonly byteLength: number;
  /**
   * Called in the order of the file, when the last chunk of the tensor before is on its way to the disk, and never for
   * tensors that an earlier run wrote. A chunk must keep its bytes while the next one is made.
   */
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
  const missing = tensors.slice(Math.max(0, out.partsDone - 1));
  const chunks = readAhead(allChunks(missing));
  try {
    if (out.partsDone === 0) {
      await out.write(header);
      await out.endPart();
    }
    for (const [i, { name, byteLength }] of tensors.entries()) {
      const resumed = i + 1 < out.partsDone;
      if (!resumed) {
        for (let done = 0; done < byteLength; ) {
          checkAbort(options.signal, path);
          const chunk = await chunks.next();
          checkAbort(options.signal, path);
          if (!chunk) throw new Error(`write: the content ended before tensor ${name}`);
          const written = out.write(chunk);
          chunks.prepare();
          await written;
          done += chunk.byteLength;
        }
        await out.write(new Uint8Array(padding(byteLength)));
        await out.endPart();
      }
      options.onTensor?.({ name, index: counter.next++, count: counter.count, byteLength, resumed });
    }
    checkAbort(options.signal, path);
    // What a tensor gives beyond its length is found here at the latest.
    await chunks.next();
    await out.seal();
    return out;
  } catch (error) {
    await chunks.close();
    await out.fail(error);
    throw error;
  }
}

/** The content of all tensors; each gives exactly the bytes that it announced, in chunks that are not empty. */
async function* allChunks(tensors: readonly TensorData[]): AsyncGenerator<Uint8Array, void> {
  for (const tensor of tensors) {
    let total = 0;
    for await (const chunk of chunksOf(tensor)) {
      total += chunk.byteLength;
      if (total > tensor.byteLength) break;
      if (chunk.byteLength > 0) yield chunk;
    }
    if (total !== tensor.byteLength)
      throw new Error(`write: tensor ${tensor.name} gave ${total} bytes, ${tensor.byteLength} were announced`);
  }
}

async function* chunksOf(tensor: TensorData): AsyncIterable<Uint8Array> {
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
