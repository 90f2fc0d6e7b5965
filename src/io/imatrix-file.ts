// Importance matrices as files (Node only); imatrix.ts describes both forms.

import { userError } from '../errors.ts';
import type { GgufEntry } from './gguf-types.ts';
import { type GgufTensor, writeGguf } from './gguf-writer.ts';
import { defaultChunkSize, type Imatrix, meanSquares } from './imatrix.ts';
import { readImatrixSource } from './imatrix-read.ts';
import { openPartial } from './partial-file.ts';
import { openFile } from './source-file.ts';

/**
 * Reads an importance matrix of llama.cpp, GGUF or legacy.
 *
 * Throws a user error when the path is wrong, a model error with file and tensor when the content is.
 *
 * @example const imatrix = await readImatrix('imatrix.gguf'); importanceOf(imatrix, 'blk.0.attn_q.weight', [64, 64])
 */
export async function readImatrix(path: string, options: { chunkSize?: number } = {}): Promise<Imatrix> {
  const source = await openFile(path);
  try {
    return await readImatrixSource(source, options);
  } finally {
    await source.close();
  }
}

/**
 * Writes an importance matrix; the file appears under its name when it is whole.
 *
 * @param options.form default: `legacy` for paths that end with .dat, else `gguf`. The legacy form keeps one number of
 *   chunks for all experts, the mean squares up to f32 rounding, the last data set, and no entry that saw no token.
 * @returns how many entries were left out
 * @throws user error when there is nothing to write, a name is too long or the path cannot be written
 */
export async function writeImatrix(
  path: string,
  imatrix: Imatrix,
  options: { form?: 'gguf' | 'legacy' } = {},
): Promise<{ omitted: number }> {
  if (imatrix.entries.size === 0) throw nothingToWrite(path, 'the importance matrix has no entries');
  const form = options.form ?? (path.endsWith('.dat') ? 'legacy' : 'gguf');
  return form === 'gguf' ? await writeGgufForm(path, imatrix) : await writeLegacyForm(path, imatrix);
}

const nothingToWrite = (file: string, problem: string) =>
  userError({ code: 'imatrix-empty', op: 'write importance matrix', problem, file });
const sorted = (imatrix: Imatrix) => [...imatrix.entries].sort(([a], [b]) => (a < b ? -1 : 1));
const bytesOf = (x: ArrayBufferView) => new Uint8Array(x.buffer, x.byteOffset, x.byteLength);

async function writeGgufForm(path: string, imatrix: Imatrix): Promise<{ omitted: number }> {
  const metadata: GgufEntry[] = [
    { key: 'general.type', type: 'string', value: 'imatrix' },
    { key: 'imatrix.datasets', type: 'string[]', value: [...imatrix.datasets] },
    { key: 'imatrix.chunk_count', type: 'u32', value: imatrix.chunkCount },
    { key: 'imatrix.chunk_size', type: 'u32', value: imatrix.chunkSize },
  ];
  const tensor = (name: string, values: Float32Array, rows: number): GgufTensor => ({
    name,
    dtype: 'F32',
    // ggml writes no trailing dimensions of 1.
    shape: rows === 1 ? [values.length] : [rows, values.length / rows],
    byteLength: values.byteLength,
    data: async () => bytesOf(values),
  });
  const tensors = sorted(imatrix).flatMap(([name, { sums, counts }]) => [
    tensor(`${name}.in_sum2`, sums, counts.length),
    tensor(`${name}.counts`, Float32Array.from(counts), counts.length),
  ]);
  await writeGguf({ path, metadata, tensors });
  return { omitted: 0 };
}

async function writeLegacyForm(path: string, imatrix: Imatrix): Promise<{ omitted: number }> {
  const kept = sorted(imatrix).filter(([, { counts }]) => counts.some((c) => c > 0));
  if (kept.length === 0) throw nothingToWrite(path, 'no layer of the importance matrix saw a token');
  const chunkSize = imatrix.chunkSize || defaultChunkSize;
  const integers = (...values: number[]) => bytesOf(Int32Array.from(values));
  const text = (value: string) => {
    const bytes = new TextEncoder().encode(value);
    return [integers(bytes.byteLength), bytes];
  };
  const parts = [integers(kept.length)];
  for (const [name, entry] of kept) {
    // Rounded up, so that little data does not become none.
    const calls = Math.ceil(Math.max(...entry.counts) / chunkSize);
    const scaled = meanSquares(entry).map((v) => v * calls);
    parts.push(...text(name), integers(calls, scaled.length), bytesOf(scaled));
  }
  parts.push(integers(imatrix.chunkCount), ...text(imatrix.datasets.at(-1) ?? ''));
  const totalBytes = parts.reduce((n, p) => n + p.byteLength, 0);
  const out = await openPartial({ path, totalBytes, layout: parts[0] });
  try {
    for (const part of parts) await out.write(part);
    await out.seal();
    await out.publish();
  } catch (error) {
    await out.fail(error);
    throw error;
  }
  return { omitted: imatrix.entries.size - kept.length };
}
