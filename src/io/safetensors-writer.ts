// Writes safetensors files, one or sharded with an index, streaming tensor by tensor.
//
// Order, alignment and header text are those of the reference implementation, so equal tensors give equal bytes:
// wider dtypes first, then by name; the header padded with spaces to a multiple of 8. Shards follow the convention of
// Hugging Face: tensors are dealt out in the given order, a new shard starts when the next would pass the limit, and
// `<stem>.safetensors.index.json` maps names to files. All shards get their final names when the last one is whole.

import { rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { userError } from '../errors.ts';
import { openPartial, type PartialFile } from './partial-file.ts';
import {
  maxHeaderBytes,
  printSafetensorsHeader,
  referenceOrder,
  safetensorsBits,
  type TensorLayout,
} from './safetensors-header.ts';
import { type StreamOptions, streamTensors, type TensorData } from './tensor-writer.ts';

export interface SafetensorsTensor extends TensorData, TensorLayout {}

export interface WriteSafetensorsOptions extends StreamOptions {
  /** `DIR/model.safetensors`; when shards are needed `DIR/model-00001-of-00003.safetensors` and the index instead. */
  path: string;
  tensors: readonly SafetensorsTensor[];
  /** `__metadata__`; transformers wants { format: 'pt' }. */
  metadata?: Readonly<Record<string, string>>;
  /** Most bytes of tensor data in a file; a larger tensor gets a shard of its own. Default: no limit. */
  maxShardBytes?: number;
  /**
   * 'reference' (default): wider dtypes first, then by name, as the reference implementation. 'given': the order of
   * `tensors`, whose offsets the caller has checked to be multiples of their elements.
   */
  order?: 'reference' | 'given';
}

export interface WrittenFiles {
  /** Files in order, the index last. */
  files: string[];
  /** Bytes of all files together, as counted while writing. */
  bytes: number;
}

/**
 * Writes the tensors; resolves when every file is whole, flushed and named.
 *
 * Throws a user error for tensors that the format cannot hold (two of one name, unknown dtype, sizes that do not fit)
 * and for paths that cannot be written, a device error when the disk is full, `interrupted` when the signal aborts.
 *
 * @example
 * await writeSafetensors({ path: 'out/model.safetensors', metadata: { format: 'pt' }, tensors: [
 *   { name: 'w', dtype: 'U8', shape: [2], byteLength: 2, data: async () => Uint8Array.of(1, 2) }] });
 */
export async function writeSafetensors(options: WriteSafetensorsOptions): Promise<WrittenFiles> {
  const { path, tensors, metadata } = options;
  checkTensors(tensors, path);
  const shards = deal(tensors, options.maxShardBytes ?? Number.POSITIVE_INFINITY);
  const names = shardNames(path, shards.length);
  const counter = { next: 0, count: tensors.length };
  const sealed: PartialFile[] = [];
  let bytes = 0;
  try {
    for (const [i, shard] of shards.entries()) {
      const ordered = options.order === 'given' ? shard : referenceOrder(shard);
      const header = printSafetensorsHeader(ordered, metadata);
      if (header.byteLength - 8 > maxHeaderBytes)
        throw userError({
          code: 'safetensors-header',
          op: 'write safetensors',
          problem: 'too many tensors',
          file: path,
        });
      const file = { path: names[i], header, tensors: ordered, alignment: 1 };
      sealed.push(await streamTensors(file, options, counter));
      bytes += header.byteLength + dataBytes(shard);
    }
  } catch (error) {
    for (const file of sealed) await file.fail(error);
    throw error;
  }
  for (const file of sealed) await file.publish();
  const indexPath = path.replace(/(\.safetensors)?$/, '.safetensors.index.json');
  if (shards.length === 1) {
    // A stale index would make readers look for shards that are gone.
    await rm(indexPath, { force: true });
    return { files: names, bytes };
  }
  bytes += await writeIndex(indexPath, shards, names);
  return { files: [...names, indexPath], bytes };
}

const dataBytes = (tensors: readonly TensorLayout[]) => tensors.reduce((n, t) => n + t.byteLength, 0);

function checkTensors(tensors: readonly SafetensorsTensor[], file: string): void {
  const fail = (code: string, problem: string, tensor: string, more: object = {}): never => {
    throw userError({ code: `safetensors-${code}`, op: 'write safetensors', problem, tensor, file, ...more });
  };
  const seen = new Set<string>();
  for (const { name, dtype, shape, byteLength } of tensors) {
    if (name === '__metadata__') fail('name', 'the name is reserved', name);
    if (seen.has(name)) fail('duplicate', 'two tensors have the same name', name);
    seen.add(name);
    if (!Object.hasOwn(safetensorsBits, dtype))
      fail('dtype', 'safetensors has no such dtype', name, { got: dtype, fix: 'write GGUF or another format' });
    const bits = shape.reduce((product, d) => product * d, safetensorsBits[dtype]);
    if (bits !== byteLength * 8)
      fail('size', `the bytes do not fit dtype ${dtype} and shape [${shape.join(', ')}]`, name, {
        got: byteLength,
        expected: bits / 8,
      });
  }
}

/** Fills shards in the given order. */
function deal(tensors: readonly SafetensorsTensor[], limit: number): SafetensorsTensor[][] {
  const shards: SafetensorsTensor[][] = [[]];
  let bytes = 0;
  for (const tensor of tensors) {
    if (bytes > 0 && bytes + tensor.byteLength > limit) {
      shards.push([]);
      bytes = 0;
    }
    shards[shards.length - 1].push(tensor);
    bytes += tensor.byteLength;
  }
  return shards;
}

function shardNames(path: string, count: number): string[] {
  if (count === 1) return [path];
  const stem = basename(path).replace(/\.safetensors$/, '');
  const five = (n: number) => String(n).padStart(5, '0');
  return Array.from({ length: count }, (_, i) =>
    join(dirname(path), `${stem}-${five(i + 1)}-of-${five(count)}.safetensors`),
  );
}

/** The index, last of all: its presence says that every shard is whole. Returns its bytes. */
async function writeIndex(path: string, shards: SafetensorsTensor[][], names: string[]): Promise<number> {
  const pairs = shards.flatMap((shard, i) => shard.map((t): [string, string] => [t.name, basename(names[i])]));
  pairs.sort(([a], [b]) => (a < b ? -1 : 1));
  const index = { metadata: { total_size: dataBytes(shards.flat()) }, weight_map: Object.fromEntries(pairs) };
  const bytes = new TextEncoder().encode(`${JSON.stringify(index, null, 2)}\n`);
  const out = await openPartial({ path, totalBytes: bytes.byteLength, layout: bytes });
  try {
    await out.write(bytes);
    await out.seal();
  } catch (error) {
    await out.fail(error);
    throw error;
  }
  await out.publish();
  return bytes.byteLength;
}
