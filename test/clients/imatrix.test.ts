// Importance matrices that we write, read by llama.cpp's own loader: every sum, count and name, in both forms.

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { uniformSource } from '../../src/formats/random.ts';
import { type Imatrix, importanceOf } from '../../src/io/imatrix.ts';
import { readImatrix, writeImatrix } from '../../src/io/imatrix-file.ts';
import { loadImatrices } from './llama-cpp.ts';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'subbyte-imatrix-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const random = uniformSource(3, 0);
const sums = (n: number, first: number) => Float32Array.from({ length: n }, (_, i) => 1e4 * random.at(first + i) ** 4);
const longName = `blk.0.${'x'.repeat(42)}.weight`;
const imatrix: Imatrix = {
  entries: new Map([
    ['output.weight', { sums: sums(64, 0), counts: [16384] }],
    ['blk.10.attn_q.weight', { sums: sums(64, 100), counts: [1000] }],
    ['blk.9.attn_q.weight', { sums: sums(48, 200), counts: [1] }],
    ['blk.0.ffn_up_exps.weight', { sums: sums(5 * 32, 300), counts: [700, 0, 3, 513, 16384] }],
    [longName, { sums: sums(3, 500), counts: [2 ** 24] }],
    ['blk.0.never.weight', { sums: new Float32Array(32), counts: [0] }],
  ]),
  datasets: ['wiki.train.raw', 'Größe.txt'],
  chunkCount: 32,
  chunkSize: 512,
};

test('the GGUF form is what llama.cpp reads, bit for bit', async () => {
  const path = join(folder, 'imatrix.gguf');
  expect(await writeImatrix(path, imatrix)).toEqual({ omitted: 0 });
  const [theirs] = await loadImatrices([path]);
  expect(theirs).toMatchObject({ datasets: imatrix.datasets, chunkCount: 32, chunkSize: 512, legacy: false });
  const ours = Object.fromEntries(
    [...imatrix.entries].map(([name, e]) => [name, { sums: [...e.sums], counts: e.counts }]),
  );
  expect(theirs?.entries).toEqual(ours);
  expect(await readImatrix(path)).toEqual({
    ...imatrix,
    entries: new Map([...imatrix.entries].sort(([a], [b]) => (a < b ? -1 : 1))),
  });
});

test('the legacy form too, as far as it can say', async () => {
  const path = join(folder, 'imatrix.dat');
  expect(await writeImatrix(path, imatrix)).toEqual({ omitted: 1 });
  const [theirs] = await loadImatrices([path]);
  expect(theirs).toMatchObject({ datasets: ['Größe.txt'], chunkCount: 32, legacy: true });
  expect(Object.keys(theirs?.entries ?? {})).toEqual(
    [...imatrix.entries.keys()].filter((n) => n !== 'blk.0.never.weight').sort(),
  );
  const back = await readImatrix(path);
  for (const [name, { sums: scaled, counts }] of Object.entries(theirs?.entries ?? {})) {
    const entry = imatrix.entries.get(name)!;
    expect(counts).toEqual([Math.ceil(Math.max(...entry.counts) / 512)]);
    // What llama.cpp's quantizer makes of it is what ours makes of both files.
    const shape = name.includes('exps') ? [5, 8, 32] : [8, entry.sums.length];
    const importance = scaled.map((v) => Math.fround(v / counts[0]));
    expect([...importanceOf(back, name, shape)!]).toEqual(importance);
    const direct = importanceOf(imatrix, name, shape)!;
    for (const [i, v] of importance.entries()) expect(Math.abs(v - direct[i])).toBeLessThanOrEqual(2e-7 * direct[i]);
  }
});
