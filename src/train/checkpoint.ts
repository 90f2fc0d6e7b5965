// Checkpoints of a run: whole or absent, the last n kept, verified before they are used.
//
// A checkpoint is a folder `step-00000500` with `state.safetensors` (weights and moments, f32, by their names in the
// graph) and `checkpoint.json` (step, digests). It is written under another name, flushed and renamed; older ones go
// only when the new one has its name. Reading compares the file with its SHA-256, so that a run never goes on from
// damaged numbers.

import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { modelError, SubbyteError } from '../errors.ts';
import { fileError, systemCode } from '../io/file-errors.ts';
import { makeFolder } from '../io/make-folder.ts';
import { openSafetensors } from '../io/safetensors.ts';
import { writeSafetensors } from '../io/safetensors-writer.ts';
import { elementCount, type Shape } from '../tensor/shape.ts';
import { type Tensor, tensorF32 } from '../tensor/tensor.ts';
import type { PhaseRecord } from './recipes/phases.ts';

/** What a checkpoint says besides its numbers. */
export interface CheckpointRecord {
  /** Updates done. */
  readonly step: number;
  /** Digest of what decides the weights (configDigest). */
  readonly config: string;
  /** Digest of the token file. */
  readonly tokens: string;
  /** Losses of the last steps, oldest first, for the watch over spikes. */
  readonly losses: readonly number[];
  /** Ratios and phases so far (recipes/phases.ts); absent: none. */
  readonly phases?: PhaseRecord;
  /** Seconds of training so far, over all runs. */
  readonly seconds: number;
}

interface Stored extends CheckpointRecord {
  readonly kind: 'subbyte checkpoint';
  readonly version: 1;
  readonly bytes: number;
  readonly sha256: string;
}

export interface StateSource {
  readonly names: readonly string[];
  shape(name: string): Shape;
  read(name: string): Promise<Tensor>;
}

const op = 'checkpoint';
const stateFile = 'state.safetensors';
const recordFile = 'checkpoint.json';
const mostRecordBytes = 2 ** 20;

const nameOf = (step: number) => `step-${String(step).padStart(8, '0')}`;
export const checkpointPath = (folder: string, step: number): string => join(folder, nameOf(step));

/** Steps of the checkpoints in a folder, oldest first; whole by their names, not verified. */
export async function listCheckpoints(folder: string): Promise<number[]> {
  let names: string[];
  try {
    names = await readdir(folder);
  } catch (cause) {
    if (systemCode(cause) === 'ENOENT') return [];
    throw fileError('read', folder, cause);
  }
  const steps = names.flatMap((name) => (/^step-\d{8,}$/.test(name) ? [Number(name.slice(5))] : []));
  return steps.sort((a, b) => a - b);
}

/** Writes the checkpoint of `record.step`, then removes all but the last `keep`. Returns its path and bytes. */
export async function saveCheckpoint(
  folder: string,
  record: CheckpointRecord,
  source: StateSource,
  keep: number,
): Promise<{ path: string; bytes: number }> {
  const path = checkpointPath(folder, record.step);
  const partial = `${path}.partial`;
  try {
    await rm(partial, { recursive: true, force: true });
    await makeFolder(partial);
    const file = join(partial, stateFile);
    const tensors = source.names.map((name) => {
      const shape = source.shape(name);
      const data = async () => bytesOf(await source.read(name));
      return { name, dtype: 'F32', shape, byteLength: 4 * elementCount(shape), data };
    });
    const { bytes } = await writeSafetensors({ path: file, tensors });
    const stored: Stored = {
      kind: 'subbyte checkpoint',
      version: 1,
      ...record,
      bytes,
      sha256: await digestOf(file),
    };
    await writeFile(join(partial, recordFile), `${JSON.stringify(stored, undefined, 2)}\n`, { flush: true });
    // a run that was set back writes a step again
    await rm(path, { recursive: true, force: true });
    await rename(partial, path);
    for (const step of (await listCheckpoints(folder)).slice(0, -keep))
      await rm(checkpointPath(folder, step), { recursive: true, force: true });
    return { path, bytes };
  } catch (cause) {
    await rm(partial, { recursive: true, force: true }).catch(() => undefined);
    throw cause instanceof SubbyteError ? cause : fileError('write', path, cause);
  }
}

export interface LoadedCheckpoint {
  readonly record: CheckpointRecord;
  readonly path: string;
  /** Calls `take` with each tensor in turn. */
  readStates(take: (name: string, tensor: Tensor) => Promise<void>): Promise<void>;
}

/**
 * Opens the checkpoint of a step and compares it with its digest.
 *
 * @throws model error that says what is damaged and, when an older checkpoint is whole, how to go on from it
 */
export async function loadCheckpoint(folder: string, step: number): Promise<LoadedCheckpoint> {
  const path = checkpointPath(folder, step);
  try {
    const record = await verify(path, step);
    return { record, path, readStates: (take) => readStates(join(path, stateFile), take) };
  } catch (cause) {
    if (!(cause instanceof SubbyteError) || cause.kind !== 'model') throw cause;
    const older = await newestWhole(folder, step);
    const fix =
      older === undefined
        ? 'start over with --fresh; no older checkpoint is whole'
        : `the one of step ${older} is whole: go on from it with --resume ${older}`;
    throw modelError({ ...cause.details, fix }, { cause });
  }
}

async function newestWhole(folder: string, before: number): Promise<number | undefined> {
  for (const step of (await listCheckpoints(folder)).filter((s) => s < before).reverse()) {
    const whole = await verify(checkpointPath(folder, step), step).catch(() => undefined);
    if (whole) return step;
  }
  return undefined;
}

async function verify(path: string, step: number): Promise<CheckpointRecord> {
  const damaged = (file: string, problem: string, more: { got?: string | number; expected?: string | number } = {}) =>
    modelError({
      code: 'checkpoint-damaged',
      op,
      problem: `the checkpoint of step ${step} is damaged: ${problem}`,
      ...more,
      file: join(path, file),
    });
  const size = async (file: string) => {
    try {
      return (await stat(join(path, file))).size;
    } catch (cause) {
      if (systemCode(cause) === 'ENOENT' || systemCode(cause) === 'ENOTDIR') throw damaged(file, `there is no ${file}`);
      throw fileError('read', join(path, file), cause);
    }
  };
  if ((await size(recordFile)) > mostRecordBytes) throw damaged(recordFile, `${recordFile} is far too large`);
  const stored = parseRecord(await readFile(join(path, recordFile), 'utf8'));
  if (!stored) throw damaged(recordFile, `${recordFile} is not what a run wrote`);
  if (stored.step !== step) throw damaged(recordFile, 'it is that of another step', { got: stored.step });
  const bytes = await size(stateFile);
  if (bytes !== stored.bytes)
    throw damaged(stateFile, `${stateFile} has another size`, { got: bytes, expected: stored.bytes });
  if ((await digestOf(join(path, stateFile))) !== stored.sha256)
    throw damaged(stateFile, `${stateFile} has another SHA-256 than when it was written`);
  const { config, tokens, losses, phases, seconds } = stored;
  return { step, config, tokens, losses, phases, seconds };
}

function parseRecord(text: string): Stored | undefined {
  let value: Partial<Stored> | null;
  try {
    value = JSON.parse(text) as Partial<Stored> | null;
  } catch {
    return undefined;
  }
  const numbers = [value?.step, value?.bytes, value?.seconds];
  const texts = [value?.config, value?.tokens, value?.sha256];
  const fits =
    value?.kind === 'subbyte checkpoint' &&
    value.version === 1 &&
    numbers.every((n) => typeof n === 'number') &&
    texts.every((t) => typeof t === 'string') &&
    Array.isArray(value.losses) &&
    value.losses.every((loss) => typeof loss === 'number') &&
    (value.phases === undefined || isPhaseRecord(value.phases));
  return fits ? (value as Stored) : undefined;
}

function isPhaseRecord(value: Partial<PhaseRecord> | null): boolean {
  const { ratios, begun } = value ?? {};
  return (
    Array.isArray(ratios) &&
    ratios.every((ratio) => typeof ratio === 'number') &&
    Array.isArray(begun) &&
    begun.every((b: Partial<PhaseRecord['begun'][number]>) => [b.phase, b.step].every(Number.isInteger))
  );
}

async function readStates(file: string, take: (name: string, tensor: Tensor) => Promise<void>): Promise<void> {
  const checkpoint = await openSafetensors(file);
  try {
    for (const { name, shape } of checkpoint.tensors.values()) {
      const bytes = await checkpoint.read(name);
      await take(name, tensorF32(shape, new Float32Array(bytes.buffer, bytes.byteOffset, elementCount(shape))));
    }
  } finally {
    await checkpoint.close();
  }
}

/** On every machine that JavaScript engines run on numbers are little-endian, as in the file. */
function bytesOf({ data }: Tensor): Uint8Array {
  const values = data instanceof Float32Array ? data : Float32Array.from(data);
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}

async function digestOf(file: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(file, { highWaterMark: 2 ** 20 })) hash.update(chunk as Buffer);
  return hash.digest('hex');
}
