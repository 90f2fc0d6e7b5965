// Reads importance matrices in both forms (imatrix.ts says what they look like), from any source.
//
// A file may come from anywhere: every length is checked against what is left of it before anything is allocated, and
// sums must be finite and not negative, because one NaN would spoil a whole tensor. Runs in Node and the browser.

import { modelError } from '../errors.ts';
import type { MetadataValue } from './checkpoint.ts';
import { type GgufCheckpoint, openGgufSources } from './gguf-sources.ts';
import { defaultChunkSize, type Imatrix, type ImatrixEntry } from './imatrix.ts';
import type { ByteSource } from './source.ts';

function fail(file: string, code: string, problem: string, more: object = {}): never {
  throw modelError({ code: `imatrix-${code}`, op: 'read importance matrix', problem, file, ...more });
}

/**
 * Reads a whole importance matrix; the form is known by the first four bytes.
 *
 * @param options.chunkSize tokens of a chunk in legacy files, which do not say it. Scales sums and counts alike: the
 *   importance is the same.
 * @throws model error with the file and tensor when a rule of the format is broken
 */
export async function readImatrixSource(source: ByteSource, options: { chunkSize?: number } = {}): Promise<Imatrix> {
  if (source.size < 4) fail(source.name, 'truncated', 'the file is too short', { got: `${source.size} bytes` });
  const magic = new TextDecoder('latin1').decode(await source.read(0, 4));
  if (magic === 'GGUF') return await readGgufForm(await openGgufSources(source.name, [source]), source.name);
  return await readLegacyForm(source, options.chunkSize ?? defaultChunkSize);
}

function checkSums(sums: Float32Array, file: string, tensor: string): Float32Array {
  const bad = sums.findIndex((v) => !(v >= 0 && v < Infinity));
  if (bad >= 0)
    fail(file, 'value', `the sum of squares of feature ${bad} is no finite number ≥ 0`, { tensor, got: sums[bad] });
  return sums;
}

async function readGgufForm(checkpoint: GgufCheckpoint, file: string): Promise<Imatrix> {
  const { metadata, tensors } = checkpoint;
  const type = metadata.get('general.type');
  const names = [...tensors.keys()].filter((n) => n.endsWith('.in_sum2')).map((n) => n.slice(0, -'.in_sum2'.length));
  if ((type !== undefined && type !== 'imatrix') || names.length === 0)
    fail(file, 'none', 'the GGUF file holds no importance matrix', {
      got: `general.type ${JSON.stringify(type ?? null)}, ${tensors.size} tensors`,
      expected: 'tensors named <weight>.in_sum2 and <weight>.counts',
      fix: 'pass the file that llama-imatrix or this program wrote, not a model',
    });
  const floats = async (name: string, tensor: string) => {
    const info = tensors.get(name);
    if (!info) fail(file, 'pair', `${name} is missing`, { tensor });
    if (info.dtype !== 'F32') fail(file, 'dtype', `${name} must be F32`, { tensor, got: info.dtype });
    return new Float32Array((await checkpoint.read(name)).buffer);
  };
  for (const name of tensors.keys())
    if (name.endsWith('.counts') && !tensors.has(`${name.slice(0, -'.counts'.length)}.in_sum2`))
      fail(file, 'pair', `${name} has no sums beside it`, { tensor: name });
  const entries = new Map<string, ImatrixEntry>();
  for (const name of names.sort()) {
    const sums = await floats(`${name}.in_sum2`, name);
    const counts = Array.from(await floats(`${name}.counts`, name), Math.round);
    if (counts.some((c) => !(c >= 0 && c <= Number.MAX_SAFE_INTEGER)))
      fail(file, 'count', 'a count of tokens is no number ≥ 0', { tensor: name });
    if (sums.length === 0 || counts.length === 0 || sums.length % counts.length !== 0)
      fail(file, 'shape', 'the sums are no whole rows of the counts', {
        tensor: name,
        got: `${sums.length} sums, ${counts.length} counts`,
      });
    entries.set(name, { sums: checkSums(sums, file, name), counts });
  }
  const datasets = metadata.get('imatrix.datasets');
  return {
    entries,
    datasets: Array.isArray(datasets) ? datasets.filter((d) => typeof d === 'string') : [],
    chunkCount: wholeNumber(metadata.get('imatrix.chunk_count')),
    chunkSize: wholeNumber(metadata.get('imatrix.chunk_size')),
  };
}

const wholeNumber = (value: MetadataValue | undefined): number =>
  typeof value === 'number' && Number.isSafeInteger(value) && value >= 0 ? value : 0;

/** Longest tensor name: ggml's builds store 63 or 127 bytes. */
const maxNameBytes = 512;
const maxDatasetBytes = 2 ** 16;

async function readLegacyForm(source: ByteSource, chunkSize: number): Promise<Imatrix> {
  const file = source.name;
  let at = 0;
  const take = async (bytes: number, what: string): Promise<Uint8Array> => {
    if (bytes > source.size - at)
      fail(file, 'truncated', `the file ends inside ${what}: it is truncated or no importance matrix`, {
        got: `${source.size} bytes`,
        expected: `at least ${at + bytes}`,
      });
    at += bytes;
    return await source.read(at - bytes, bytes);
  };
  const integers = async (count: number, what: string) => new Int32Array((await take(4 * count, what)).buffer);
  const string = async (length: number, least: number, most: number, what: string) => {
    if (!(length >= least && length <= most))
      fail(file, 'length', `the length of ${what} cannot be: the file is damaged or no importance matrix`, {
        got: length,
        expected: `${least} to ${most} bytes`,
      });
    try {
      return new TextDecoder('utf-8', { fatal: true }).decode(await take(length, what));
    } catch (cause) {
      if (!(cause instanceof TypeError)) throw cause;
      return fail(file, 'utf8', `${what} is not valid UTF-8: the file is damaged or no importance matrix`);
    }
  };

  const [count] = await integers(1, 'the number of entries');
  // An entry has three integers, a letter and a value at least.
  const most = Math.floor((source.size - 4) / 17);
  if (!(count >= 1 && count <= most))
    fail(file, 'entries', 'the number of entries cannot be: the file is damaged or no importance matrix', {
      got: count,
      expected: `1 to ${most}`,
    });
  const entries = new Map<string, ImatrixEntry>();
  for (let i = 0; i < count; i++) {
    const [nameBytes] = await integers(1, `entry ${i}`);
    const name = await string(nameBytes, 1, maxNameBytes, `the name of entry ${i}`);
    if (entries.has(name)) fail(file, 'duplicate', 'two entries have the same name', { tensor: name });
    const [calls, values] = await integers(2, `entry ${name}`);
    if (values < 1) fail(file, 'length', 'an entry has no values', { tensor: name, got: values });
    const scaled = new Float32Array((await take(4 * values, `the values of ${name}`)).buffer);
    // llama.cpp takes the values of an entry without calls as they are.
    const tokens = Math.max(1, calls) * chunkSize;
    entries.set(name, { sums: checkSums(scaled, file, name).map((v) => v * chunkSize), counts: [tokens] });
  }
  if (at === source.size) return { entries, datasets: [], chunkCount: 0, chunkSize };
  const [chunkCount] = await integers(1, 'the number of chunks');
  if (at === source.size) return { entries, datasets: [], chunkCount: Math.max(0, chunkCount), chunkSize };
  const [length] = await integers(1, 'the name of the data set');
  const dataset = await string(length, 0, maxDatasetBytes, 'the name of the data set');
  return { entries, datasets: dataset ? [dataset] : [], chunkCount: Math.max(0, chunkCount), chunkSize };
}
