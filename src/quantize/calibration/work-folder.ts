// What a calibration has finished, on disk: a killed run goes on at the next block, and writers read the results.
//
//   <folder>/block-0003.safetensors     the tensors of block 3 that differ from the source, and the report on its layers
//   <folder>/hidden-0003.f32            the input of block 4 (the last finished block's only)
//
// Files appear under their names when whole. Everything carries the fingerprint of the run; what belongs to another run
// is removed. A packed tensor is stored as its parts (`name:codes`, `:scales`, `:zeroPoints`); its format and tensor
// scale stand in the metadata.

import { open, readdir, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { modelError } from '../../errors.ts';
import { formatName, parseFormat } from '../../formats/registry.ts';
import type { Checkpoint } from '../../io/checkpoint.ts';
import { fileError } from '../../io/file-errors.ts';
import { makeFolder } from '../../io/make-folder.ts';
import { openSafetensors } from '../../io/safetensors.ts';
import { type SafetensorsTensor, writeSafetensors } from '../../io/safetensors-writer.ts';
import { elementCount } from '../../tensor/shape.ts';
import { type AnyTensor, qtensor, tensorF32 } from '../../tensor/tensor.ts';
import type { ActivationStore } from './activations.ts';

/** One finished block. */
export interface BlockResult {
  readonly tensors: ReadonlyMap<string, AnyTensor>;
  /** JSON data for the report. */
  readonly report: unknown;
}

export interface WorkFolder {
  readonly folder: string;
  /** Blocks 0 … finished − 1 are there. */
  readonly finished: number;
  write(layer: number, result: BlockResult, hidden: ActivationStore | undefined): Promise<void>;
  report(layer: number): Promise<unknown>;
  /** Names of the stored tensors of all finished blocks, with their blocks. */
  index(): Promise<ReadonlyMap<string, number>>;
  load(layer: number, name: string): Promise<AnyTensor>;
  /** Fills a store with the input of block `finished`; false where only an older state could be kept. */
  readHidden(to: ActivationStore): Promise<boolean>;
  close(): Promise<void>;
  /** Closes and deletes everything. */
  remove(): Promise<void>;
}

const op = 'calibrate';
const blockFile = (layer: number) => `block-${String(layer).padStart(4, '0')}.safetensors`;
const hiddenFile = (layer: number) => `hidden-${String(layer).padStart(4, '0')}.f32`;

interface StoredTensor {
  shape: number[];
  format: string;
  rows: number;
  cols: number;
  tensorScale: number;
  zeroPoints: boolean;
}

/** Opens the folder and finds what an earlier run with the same fingerprint finished. */
export async function openWorkFolder(folder: string, fingerprint: string): Promise<WorkFolder> {
  await makeFolder(folder);
  const opened = new Map<number, Checkpoint>();
  const openBlock = async (layer: number): Promise<Checkpoint> => {
    const known = opened.get(layer);
    if (known) return known;
    const checkpoint = await openSafetensors(path.join(folder, blockFile(layer)));
    opened.set(layer, checkpoint);
    return checkpoint;
  };
  const close = async () => {
    for (const checkpoint of opened.values()) await checkpoint.close();
    opened.clear();
  };
  const isOurs = async (layer: number) => {
    const checkpoint = await openBlock(layer).catch(() => undefined);
    return checkpoint?.metadata.get('fingerprint') === fingerprint;
  };
  let finished = 0;
  while (await isOurs(finished)) finished++;
  await close();
  const kept = new Set([
    ...Array.from({ length: finished }, (_, layer) => blockFile(layer)),
    ...(finished > 0 ? [hiddenFile(finished - 1)] : []),
  ]);
  for (const name of await readdir(folder))
    if (/^(block|hidden|activations)-.*\.(safetensors|f32)(\.partial(\.json)?)?$/.test(name) && !kept.has(name))
      await rm(path.join(folder, name), { force: true });

  const stored = async (layer: number): Promise<Record<string, StoredTensor>> =>
    JSON.parse(String((await openBlock(layer)).metadata.get('tensors')));
  const self = {
    folder,
    get finished() {
      return finished;
    },
    async write(layer: number, result: BlockResult, hidden: ActivationStore | undefined) {
      if (layer !== finished) throw new Error(`work folder: block ${layer} after ${finished} blocks`);
      if (hidden) await writeHidden(path.join(folder, hiddenFile(layer)), hidden);
      const { tensors, described } = describe(result.tensors);
      await writeSafetensors({
        path: path.join(folder, blockFile(layer)),
        tensors,
        metadata: { fingerprint, tensors: JSON.stringify(described), report: JSON.stringify(result.report) },
      });
      if (layer > 0) await rm(path.join(folder, hiddenFile(layer - 1)), { force: true });
      finished = layer + 1;
    },
    report: async (layer: number) => JSON.parse(String((await openBlock(layer)).metadata.get('report'))),
    async index() {
      const index = new Map<string, number>();
      for (let layer = 0; layer < finished; layer++)
        for (const name of Object.keys(await stored(layer))) index.set(name, layer);
      return index;
    },
    async load(layer: number, name: string) {
      const description = (await stored(layer))[name];
      if (!description) throw new Error(`work folder: block ${layer} has no tensor ${name}`);
      return loadTensor(await openBlock(layer), name, description);
    },
    readHidden: (to: ActivationStore) =>
      finished === 0 ? Promise.resolve(false) : readHidden(path.join(folder, hiddenFile(finished - 1)), to),
    close,
    async remove() {
      await close();
      await rm(folder, { recursive: true, force: true });
    },
  };
  return self;
}

function describe(tensors: ReadonlyMap<string, AnyTensor>) {
  const parts: SafetensorsTensor[] = [];
  const described: Record<string, StoredTensor> = {};
  const put = (name: string, bytes: Uint8Array) => {
    if (bytes.byteLength > 0)
      parts.push({
        name,
        dtype: 'U8',
        shape: [bytes.byteLength],
        byteLength: bytes.byteLength,
        data: async () => bytes,
      });
  };
  for (const [name, tensor] of tensors) {
    const shape = [...tensor.shape];
    if (tensor.kind === 'dense') {
      const { buffer, byteOffset, byteLength } = Float32Array.from(tensor.data);
      put(`${name}:codes`, new Uint8Array(buffer, byteOffset, byteLength));
      described[name] = { shape, format: 'dense', rows: 0, cols: 0, tensorScale: 1, zeroPoints: false };
      continue;
    }
    const { format, rows, cols, codes, scales, zeroPoints, tensorScale } = tensor.data;
    put(`${name}:codes`, codes);
    put(`${name}:scales`, scales);
    if (zeroPoints) put(`${name}:zeroPoints`, zeroPoints);
    described[name] = {
      shape,
      format: formatName(format),
      rows,
      cols,
      tensorScale,
      zeroPoints: zeroPoints !== undefined,
    };
  }
  return { tensors: parts, described };
}

async function loadTensor(checkpoint: Checkpoint, name: string, d: StoredTensor): Promise<AnyTensor> {
  const read = async (part: string) =>
    checkpoint.tensors.has(`${name}:${part}`) ? await checkpoint.read(`${name}:${part}`) : new Uint8Array(0);
  const codes = await read('codes');
  if (d.format === 'dense') {
    const values = new Float32Array(elementCount(d.shape));
    if (codes.byteLength !== values.byteLength)
      throw modelError({
        code: 'work-tensor',
        op,
        problem: 'a stored tensor has the wrong size',
        tensor: name,
        file: checkpoint.location,
      });
    new Uint8Array(values.buffer).set(codes);
    return tensorF32(d.shape, values);
  }
  return qtensor(d.shape, {
    format: parseFormat(d.format),
    rows: d.rows,
    cols: d.cols,
    codes,
    scales: await read('scales'),
    zeroPoints: d.zeroPoints ? await read('zeroPoints') : undefined,
    tensorScale: d.tensorScale,
  });
}

async function writeHidden(file: string, store: ActivationStore): Promise<void> {
  const partial = `${file}.partial`;
  try {
    const handle = await open(partial, 'w');
    try {
      for (let chunk = 0; chunk < store.chunks; chunk++) {
        const data = store.read(chunk);
        const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
        for (let done = 0; done < bytes.byteLength; )
          done += (await handle.write(bytes, done, bytes.byteLength - done)).bytesWritten;
      }
    } finally {
      await handle.close();
    }
    await rename(partial, file);
  } catch (cause) {
    throw fileError('write', file, cause);
  }
}

async function readHidden(file: string, store: ActivationStore): Promise<boolean> {
  const handle = await open(file, 'r').catch(() => undefined);
  if (!handle) return false;
  try {
    const expected = 4 * store.chunks * store.size;
    if ((await handle.stat()).size !== expected) return false;
    for (let chunk = 0; chunk < store.chunks; chunk++)
      await store.write(chunk, async (to) => {
        const bytes = new Uint8Array(to.buffer, to.byteOffset, to.byteLength);
        for (let done = 0; done < bytes.byteLength; ) {
          const { bytesRead } = await handle.read(bytes, done, bytes.byteLength - done, null);
          if (bytesRead === 0) throw new Error('the file ended early');
          done += bytesRead;
        }
      });
    return true;
  } catch (cause) {
    throw fileError('read', file, cause);
  } finally {
    await handle.close();
  }
}
