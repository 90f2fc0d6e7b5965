// Parquet files of three other writers: arrow-rs and DuckDB (fixtures), hyparquet-writer (here); and broken ones.
//
// The fixtures hold 300 rows {id, text, messages} of the formulas below. They were written by parquet-wasm 0.8.0
// (arrow-rs: version 1 pages with dictionaries and Snappy; version 2 pages with DELTA_BYTE_ARRAY and zstd in row groups of
// 100) and by DuckDB 1.5.6 (PARQUET_VERSION v2, zstd).

import fc from 'fast-check';
import { type ParquetWriteOptions, parquetWriteBuffer } from 'hyparquet-writer';
import { describe, expect, it } from 'vitest';
import { SubbyteError } from '../../src/errors.ts';
import { openText } from '../../src/io/datasets.ts';
import { readParquet } from '../../src/io/parquet.ts';
import { bytesOf, project, scratchFolder, write } from './io-scratch.ts';

const folder = scratchFolder();
const fixture = (name: string) => `${project}test/fixtures/io/${name}`;
const fixtures = ['arrow-rs-v1-snappy.parquet', 'arrow-rs-v2-delta-zstd.parquet', 'duckdb-v2-zstd.parquet'];

const textOf = (i: number) => {
  if (i % 17 === 3) return null;
  return i % 17 === 5 ? '' : `Row ${i}: Größe, 日本語 🙂 ${'abc '.repeat(i % 9)}`;
};
const messagesOf = (i: number) => [
  ...(i % 5 === 4 ? [] : [{ role: 'user', content: `question ${i}` }]),
  ...(i % 5 === 4 || i % 3 === 0 ? [] : [{ role: 'assistant', content: `answer ${i} ü` }]),
];

async function rows(path: string, field?: string): Promise<unknown[]> {
  const all: unknown[] = [];
  for await (const { record, place } of readParquet(path, field)) {
    expect(place).toBe(`${path} row ${all.length + 1}`);
    all.push(record);
  }
  return all;
}

describe.each(fixtures)('%s', (name) => {
  it('gives texts, nulls and lists of messages as they were written', async () => {
    const indices = Array.from({ length: 300 }, (_, i) => i);
    expect(await rows(fixture(name))).toEqual(indices.map((i) => ({ text: textOf(i) })));
    expect(await rows(fixture(name), 'messages')).toEqual(indices.map((i) => ({ messages: messagesOf(i) })));
    expect(await rows(fixture(name), 'id')).toEqual(indices.map((id) => ({ id })));
  });

  it('is a text', async () => {
    let text = '';
    for await (const piece of (await openText(fixture(name))).stream()) text += piece;
    const documents = Array.from({ length: 300 }, (_, i) => textOf(i)).filter((t) => t !== null);
    expect(text).toBe(documents.join('\n\n'));
    const numbers = async () => {
      for await (const _ of (await openText(fixture(name), { field: 'id' })).stream());
    };
    await expect(numbers()).rejects.toThrow(/field "id" holds no text, got number.*row 1\)/);
  });

  it('with damaged bytes is read or refused, and never more than that', { timeout: 300_000 }, async () => {
    const bytes = bytesOf(fixture(name));
    const change = fc.record({
      at: fc.oneof(fc.nat(bytes.length - 1), fc.integer({ min: bytes.length - 1500, max: bytes.length - 1 })),
      value: fc.oneof(fc.nat(255), fc.constantFrom(0, 0x7f, 0x80, 0xff, 0xfe)),
    });
    let refused = 0;
    await fc.assert(
      fc.asyncProperty(
        fc.array(change, { minLength: 1, maxLength: 4 }),
        fc.constantFrom('text', 'messages'),
        async (changes, field) => {
          const damaged = bytes.slice();
          for (const { at, value } of changes) damaged[at] = value;
          const path = write(folder, `damaged-${name}`, damaged);
          try {
            for await (const _ of readParquet(path, field));
          } catch (error) {
            if (!(error instanceof SubbyteError)) throw error;
            refused++;
          }
        },
      ),
      { numRuns: 400 },
    );
    expect(refused).toBeGreaterThan(50);
  });
});

describe('hyparquet-writer', () => {
  const texts = Array.from({ length: 1000 }, (_, i) => (i % 10 === 9 ? null : `text ${i % 7} ${'ü'.repeat(i % 50)}`));
  const file = (name: string, options: Partial<ParquetWriteOptions> = {}, data: unknown[] = texts) => {
    const columnData = [
      { name: 'n', data: data.map((_, i) => i), type: 'INT32' as const },
      { name: 'body.text', data: data as string[], type: 'STRING' as const },
    ];
    return write(folder, name, new Uint8Array(parquetWriteBuffer({ columnData, rowGroupSize: 300, ...options })));
  };

  it('row groups, codecs and pages make no difference', async () => {
    const expected = texts.map((text) => ({ 'body.text': text }));
    expect(await rows(file('a.parquet'), 'body.text')).toEqual(expected);
    expect(await rows(file('b.parquet', { codec: 'UNCOMPRESSED' }), 'body.text')).toEqual(expected);
    expect(await rows(file('c.parquet', { pageSize: 500 }), 'body.text')).toEqual(expected);
  });

  it('reads a row group when its rows are asked for', async () => {
    const path = file('late.parquet');
    const bytes = bytesOf(path);
    // damage in the third row group's pages
    bytes.fill(0xff, Math.floor(bytes.length * 0.5), Math.floor(bytes.length * 0.7));
    const damaged = write(folder, 'late-damaged.parquet', bytes);
    let count = 0;
    await expect(async () => {
      for await (const _ of readParquet(damaged, 'body.text')) count++;
    }).rejects.toThrow(/row group [123] cannot be read: .*late-damaged\.parquet/);
    expect(count).toBeGreaterThanOrEqual(300);
  });

  it('names the columns when one is missing', async () => {
    await expect(rows(file('d.parquet'))).rejects.toThrow(
      /no field text and no field messages, expected one of n, body\.text \(file .*d\.parquet\); choose with --calib-field/,
    );
    await expect(rows(file('d.parquet'), 'body.txt')).rejects.toThrow(
      /no field "body\.txt".*did you mean "body\.text"/,
    );
  });

  it('refuses text that is no UTF-8', async () => {
    const columnData = [{ name: 'text', data: [new Uint8Array([0x61, 0xff])], type: 'BYTE_ARRAY' as const }];
    const path = write(folder, 'latin.parquet', new Uint8Array(parquetWriteBuffer({ columnData })));
    await expect(rows(path)).rejects.toThrow(/a text in row group 0 is not UTF-8 \(file .*latin\.parquet\)/);
  });

  it('says what is no Parquet file', async () => {
    const bytes = bytesOf(file('e.parquet'));
    const read = (name: string, content: Uint8Array) => rows(write(folder, name, content), 'body.text');
    await expect(read('f.parquet', new Uint8Array(0))).rejects.toThrow(
      /the footer cannot be read: it is no Parquet file/,
    );
    await expect(read('g.parquet', bytes.subarray(0, -1))).rejects.toThrow(
      /does not end with PAR1 \(file .*g\.parquet/,
    );
    const encrypted = bytes.slice();
    encrypted[bytes.length - 1] = 'E'.charCodeAt(0);
    await expect(read('h.parquet', encrypted)).rejects.toThrow(/it is encrypted/);
    const long = bytes.slice();
    new DataView(long.buffer).setUint32(bytes.length - 8, 2 ** 31, true);
    await expect(read('i.parquet', long)).rejects.toThrow(/it announces 2147483648 bytes/);
    await expect(rows(`${folder}/absent.parquet`)).rejects.toThrow(/no such file/);
  });
});
