// Importance matrices from bytes written out by hand, the rules for what calibration did not reach, and broken files.

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { concat, ggufString, text, u32, u64 } from '../../test/conformance/io-scratch.ts';
import { SubbyteError } from '../errors.ts';
import { type Imatrix, importanceOf, meanSquares } from './imatrix.ts';
import { readImatrixSource } from './imatrix-read.ts';
import { memorySource } from './source.ts';

const f32 = (...values: number[]) => new Uint8Array(Float32Array.from(values).buffer);
const read = (bytes: Uint8Array) => readImatrixSource(memorySource(bytes, 'x.imatrix'));

const string = (value: string) => concat(u32(text(value).length), text(value));
const legacyEntry = (name: string, calls: number, ...values: number[]) =>
  concat(string(name), u32(calls), u32(values.length), f32(...values));
const legacy = concat(
  u32(2),
  legacyEntry('blk.0.attn_q.weight', 4, 4, 8, 12),
  legacyEntry('blk.0.ffn_up_exps.weight', 2, 2, 4, 2, 2),
  u32(7),
  string('wiki.txt'),
);

const key = (name: string, type: number, value: Uint8Array) => concat(ggufString(name), u32(type), value);
const tensor = (name: string, dims: number[], type: number, offset: number) =>
  concat(ggufString(name), u32(dims.length), ...dims.map(u64), u32(type), u64(offset));
function gguf(keys: Uint8Array[], tensors: Uint8Array[], ...data: Uint8Array[]): Uint8Array {
  const header = concat(text('GGUF'), u32(3), u64(tensors.length), u64(keys.length), ...keys, ...tensors);
  const padded = (b: Uint8Array) => concat(b, new Uint8Array((32 - (b.length % 32)) % 32));
  return concat(padded(header), ...data.map(padded));
}
const keys = [
  key('general.type', 8, ggufString('imatrix')),
  key('imatrix.datasets', 9, concat(u32(8), u64(1), ggufString('wiki.txt'))),
  key('imatrix.chunk_count', 4, u32(7)),
  key('imatrix.chunk_size', 4, u32(512)),
];
/** Dimensions innermost first, as in the file: a dense layer and two experts of which one saw nothing. */
const tensors = [
  tensor('a.weight.in_sum2', [3], 0, 0),
  tensor('a.weight.counts', [1], 0, 32),
  tensor('b.weight.in_sum2', [2, 2], 0, 64),
  tensor('b.weight.counts', [1, 2], 0, 96),
  tensor('b.weight.in_sum', [2, 2], 0, 128),
];
const data = [f32(10, 20, 30), f32(10), f32(8, 4, 0, 0), f32(4, 0), f32(-1, 1, 0, 0)];
const file = gguf(keys, tensors, ...data);

describe('reads', () => {
  test('the GGUF form', async () => {
    expect(await read(file)).toEqual({
      entries: new Map([
        ['a.weight', { sums: Float32Array.of(10, 20, 30), counts: [10] }],
        ['b.weight', { sums: Float32Array.of(8, 4, 0, 0), counts: [4, 0] }],
      ]),
      datasets: ['wiki.txt'],
      chunkCount: 7,
      chunkSize: 512,
    });
  });

  test('the legacy form', async () => {
    const imatrix = await read(legacy);
    expect(imatrix).toMatchObject({ datasets: ['wiki.txt'], chunkCount: 7, chunkSize: 512 });
    expect(importanceOf(imatrix, 'blk.0.attn_q.weight', [2, 3])).toEqual(Float32Array.of(1, 2, 3));
    expect(importanceOf(imatrix, 'blk.0.ffn_up_exps.weight', [2, 9, 2])).toEqual(Float32Array.of(1, 2, 1, 1));
    expect(imatrix.entries.get('blk.0.attn_q.weight')?.counts).toEqual([4 * 512]);
  });

  test('a legacy file without its tail, and entries without calls', async () => {
    const imatrix = await read(concat(u32(1), legacyEntry('a', 0, 3, 5)));
    expect(imatrix).toMatchObject({ datasets: [], chunkCount: 0 });
    expect(importanceOf(imatrix, 'a', [1, 2])).toEqual(Float32Array.of(3, 5));
  });

  test('a GGUF file without keys', async () => {
    const imatrix = await read(gguf([], tensors, ...data));
    expect(imatrix).toMatchObject({ datasets: [], chunkCount: 0, chunkSize: 0 });
  });
});

describe('importance', () => {
  const imatrix: Imatrix = {
    entries: new Map([
      ['dense', { sums: Float32Array.of(1, 2, 6), counts: [3] }],
      ['experts', { sums: Float32Array.of(1, 2, 9, 9, 5, 0), counts: [2, 0, 1] }],
      ['token_embd.weight', { sums: Float32Array.of(1), counts: [3] }],
    ]),
    datasets: [],
    chunkCount: 0,
    chunkSize: 512,
  };
  test('is the mean square, and 1 for experts that saw nothing', () => {
    expect(importanceOf(imatrix, 'dense', [5, 3])).toEqual(Float32Array.of(1 / 3, 2 / 3, 2));
    expect(importanceOf(imatrix, 'experts', [3, 7, 2])).toEqual(Float32Array.of(0.5, 1, 1, 1, 5, 0));
    expect(meanSquares({ sums: Float32Array.of(4, 4), counts: [0] })).toEqual(Float32Array.of(1, 1));
  });
  test('is absent for weights without an entry, and for a token embedding of another shape', () => {
    expect(importanceOf(imatrix, 'other', [5, 3])).toBeUndefined();
    expect(importanceOf(imatrix, 'token_embd.weight', [5, 3])).toBeUndefined();
  });
  test('of another shape is an error', () => {
    expect(() => importanceOf(imatrix, 'dense', [5, 4])).toThrow(/another shape, got 3 values, expected 4 .*dense/);
    expect(() => importanceOf(imatrix, 'experts', [2, 7, 2])).toThrow(/expected 2 × 2/);
  });
});

describe('refuses', () => {
  const bad = (name: string, replaced: [number, Uint8Array][], from = tensors, values = data) => {
    const changed = [...from];
    for (const [i, t] of replaced) changed[i] = t;
    return [name, gguf(keys, changed, ...values)] as const;
  };
  const none = new Uint8Array(0);
  test.each([
    ['an empty file', none, /too short/],
    ['a text', text('This is no importance matrix at all, sorry'), /number of entries cannot be/],
    ['no entries', u32(0), /number of entries cannot be/],
    ['a huge name', concat(u32(1), u32(2 ** 30), new Uint8Array(64)), /length of the name of entry 0 cannot be/],
    ['a negative name', concat(u32(1), u32(-1), new Uint8Array(64)), /length of the name of entry 0 cannot be/],
    [
      'huge values',
      concat(u32(1), string('a'), u32(1), u32(2 ** 30), new Uint8Array(64)),
      /ends inside the values of a/,
    ],
    ['no values', concat(u32(1), string('a'), u32(1), u32(0), new Uint8Array(64)), /no values/],
    ['a cut entry', legacy.subarray(0, 30), /ends inside|cannot be/],
    ['a cut tail', legacy.subarray(0, legacy.length - 1), /ends inside the name of the data set/],
    ['equal names', concat(u32(2), legacyEntry('a', 1, 1), legacyEntry('a', 1, 1)), /same name/],
    ['a NaN', concat(u32(1), legacyEntry('a', 1, 1, NaN)), /feature 1 is no finite number.*tensor a/],
    ['a bad letter', concat(u32(1), u32(1), Uint8Array.of(0xff), u32(1), u32(1), f32(1)), /UTF-8/],
    ['a model', gguf([key('general.type', 8, ggufString('model'))], tensors, ...data), /no importance matrix/],
    ['no sums', gguf(keys, [tensor('w', [1], 0, 0)], f32(1)), /no importance matrix/],
    [...bad('sums alone', [[1, tensor('c.weight', [1], 0, 32)]]), /a\.weight\.counts is missing/],
    [...bad('counts alone', [[0, tensor('c.weight', [3], 0, 0)]]), /a\.weight\.counts has no sums/],
    [...bad('an integer type', [[1, tensor('a.weight.counts', [1], 26, 32)]]), /must be F32, got I32/],
    [...bad('uneven rows', [[1, tensor('a.weight.counts', [2], 0, 32)]]), /no whole rows/],
    ['a negative sum', gguf(keys, tensors, f32(-1, 0, 0), ...data.slice(1)), /feature 0 is no finite number/],
    ['an infinite count', gguf(keys, tensors, data[0], f32(Infinity), ...data.slice(2)), /count of tokens/],
  ])('%s', async (_, bytes, message) => {
    await expect(read(bytes as Uint8Array)).rejects.toThrow(message as RegExp);
    await expect(read(bytes as Uint8Array)).rejects.toBeInstanceOf(SubbyteError);
  });

  test('any damage with an error of ours, without reading more than the file has', async () => {
    const byte = fc.record({ at: fc.nat(), value: fc.nat(255) });
    await fc.assert(
      fc.asyncProperty(fc.boolean(), fc.array(byte, { maxLength: 6 }), fc.nat(), async (isGguf, changes, cut) => {
        const bytes = (isGguf ? file : legacy).slice();
        for (const { at, value } of changes) bytes[at % bytes.length] = value;
        const source = memorySource(bytes.subarray(0, bytes.length - (cut % 8 === 0 ? cut % bytes.length : 0)), 'x');
        let asked = 0;
        const counted = {
          ...source,
          read: async (offset: number, length: number) => {
            asked += length;
            return await source.read(offset, length);
          },
        };
        await readImatrixSource(counted).catch((error) => {
          if (!(error instanceof SubbyteError)) throw error;
        });
        expect(asked).toBeLessThanOrEqual(2 * bytes.length + 8);
      }),
      { numRuns: 1500, seed: 7 },
    );
  });
});
