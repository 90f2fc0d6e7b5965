import { describe, expect, it } from 'vitest';
import { type ColumnShape, checkPages } from './parquet-pages.ts';
import { type Cursor, readStruct } from './parquet-thrift.ts';

/** Unsigned LEB128. */
function varint(value: number): number[] {
  return value < 128 ? [value] : [(value % 128) + 128, ...varint(Math.floor(value / 128))];
}
type Field = number | Field[] | undefined;
/** A Thrift structure whose fields 1, 2, … are 32-bit numbers or structures. */
function struct(...fields: Field[]): number[] {
  let before = 0;
  const bytes = fields.flatMap((field, i) => {
    if (field === undefined) return [];
    const delta = (i + 1 - before) << 4;
    before = i + 1;
    return Array.isArray(field)
      ? [delta | 12, ...struct(...field)]
      : [delta | 5, ...varint(field < 0 ? -2 * field - 1 : 2 * field)];
  });
  return [...bytes, 0];
}
const cursor = (bytes: number[], elements = 1000): Cursor => {
  const { buffer } = Uint8Array.from(bytes);
  return { view: new DataView(buffer), at: 0, end: buffer.byteLength, elements };
};
const prefixed = (runs: number[]) => [runs.length, 0, 0, 0, ...runs];

const flat: ColumnShape = { codec: 'UNCOMPRESSED', values: 20, boolean: false, maxDefinition: 1, maxRepetition: 0 };
/** A data page of version 1: definition levels in runs, then the values. */
function dataPage(
  values: number,
  encoding: number,
  levels: number[],
  body: number[],
  announce: number[] = [],
): number[] {
  const page = [...prefixed(levels), ...body];
  const [size = page.length, stored = page.length] = announce;
  return [...struct(0, size, stored, undefined, [values, encoding, 3, 3]), ...page];
}
/** 20 times the level 1. */
const present = [20 << 1, 1];
const check = (bytes: number[], shape: Partial<ColumnShape> = {}) =>
  checkPages(Uint8Array.from(bytes), { ...flat, ...shape });

describe('pages of a column', () => {
  it('pass when they hold what they announce', () => {
    // dictionary indices of 2 bits: a run of 12 threes, 8 packed ones
    check(dataPage(20, 8, present, [2, 12 << 1, 3, (1 << 1) | 1, 0x1b, 0x1b]));
    // two pages; packed levels filled up beyond the 10 values
    const half = dataPage(10, 8, [(2 << 1) | 1, 0xff, 0x03], [1, 10 << 1, 0]);
    check([...half, ...half]);
    // one null: 19 indices
    check(dataPage(20, 8, [19 << 1, 1, 1 << 1, 0], [1, 19 << 1, 1]));
    // a dictionary of 3 texts goes first
    check([...struct(2, 3, 3, undefined, undefined, undefined, [3, 0]), 1, 2, 3, ...half, ...half]);
  });

  it.each<[string, number[], Partial<ColumnShape>, RegExp]>([
    ['more values than the column', dataPage(20, 0, present, []), { values: 10 }, /more values than the column/],
    ['fewer values', dataPage(20, 0, present, []), { values: 30 }, /hold 20 of 30 values/],
    ['far too many values', dataPage(2 ** 30, 0, present, []), { values: 2 ** 30 }, /announces 1073741824 values/],
    ['a size beyond the column', dataPage(20, 0, present, [], [7, 2 ** 30]), {}, /announces 1073741824 bytes/],
    ['a bomb', dataPage(20, 0, present, [], [2 ** 30, 6]), {}, /1073741824 bytes after decompression/],
    ['levels that run on', dataPage(20, 0, [...varint(2 ** 31), 1], []), {}, /a run outgrows its page/],
    ['indices that run on', dataPage(20, 8, present, [1, ...varint(2 ** 31), 1]), {}, /a run outgrows its page/],
    ['packed indices without end', dataPage(20, 8, present, [1, ...varint(2 ** 30 + 1), 1]), {}, /outgrows its page/],
    ['runs that end early', dataPage(20, 8, present, [1, 4, 1]), {}, /ends in the middle/],
    ['indices too wide', dataPage(20, 8, present, [33, 40, 1]), {}, /indices have 33 bits/],
    ['levels beyond the page', [...struct(0, 4, 4, undefined, [20, 0, 3, 3]), 255, 0, 0, 0], {}, /ends in its levels/],
    ['a negative size', [...struct(0, -7, 7, undefined, [20, 0, 3, 3]), 0], {}, /not whole/],
    ['no header', [...struct(0, 1, 1), 0, 0], {}, /not whole/],
    ['an unknown kind', [...struct(9, 1, 1), 0, 0], {}, /page of type 9/],
    ['lz4', dataPage(20, 0, present, []), { codec: 'LZ4_RAW' }, /LZ4_RAW, which is not read here/],
    [
      'levels of version 2 beyond the page',
      [...struct(3, 3, 3, undefined, undefined, undefined, undefined, [20, 0, 20, 0, 5, 0]), 0, 0, 0],
      {},
      /levels outgrow a page/,
    ],
    [
      'strings that repeat each other',
      // 20 times: 2^27 characters of the string before, then none of its own
      dataPage(20, 7, present, [...delta(2 ** 27, 20), ...delta(0, 20)]),
      {},
      /2684354560 bytes, too much/,
    ],
  ])('with %s are refused', (_, bytes, shape, message) => {
    expect(() => check(bytes, shape)).toThrow(message);
  });
});

/** The same value `count` times, as differences: a block of 128 in one part, all of them 0. */
function delta(value: number, count: number): number[] {
  return [...varint(128), 1, ...varint(count), ...varint(2 * value), 0, 0];
}

describe('Thrift structures', () => {
  it('are read up to their end', () => {
    // 1: i32 −3, 3: true, 4: a binary of 2 bytes, 5: a double, 6: a list of two bytes, 7: {1: i64 300}
    const bytes = [
      0x15, 5, 0x21, 0x18, 2, 65, 66, 0x17, 0, 0, 0, 0, 0, 0, 0, 0, 0x19, 0x23, 1, 2, 0x1c, 0x16, 0xd8, 4, 0, 0,
    ];
    const at = cursor([...bytes, 99]);
    expect(readStruct(at)).toEqual(
      new Map<number, unknown>([
        [1, -3],
        [3, 1],
        [7, new Map([[1, 300]])],
      ]),
    );
    expect(at.at).toBe(bytes.length);
  });

  it.each<[string, number[], RegExp]>([
    ['a list longer than what is left', [0x19, 0xf3, ...varint(2 ** 31), 1], /list of 2147483648 elements/],
    ['lists in lists', [0x19, ...Array(200).fill(0x19)], /nested too deeply|list of/],
    ['structures in structures', Array(200).fill(0x1c), /nested too deeply/],
    ['a field longer than what is left', [0x18, 200, 1, 0], /field of 200 bytes/],
    ['an unknown type', [0x1e, 0], /field of type 14/],
    ['a number without end', [0x15, ...Array(20).fill(0xff)], /number does not end/],
    ['no end', [0x15, 2], /ends in the middle/],
  ])('with %s are refused', (_, bytes, message) => {
    expect(() => readStruct(cursor(bytes))).toThrow(message);
  });

  it('with more elements than allowed in all are refused', () => {
    const lists = Array.from({ length: 20 }, () => [0x19, 0xa3, ...Array(10).fill(1)]).flat();
    expect(readStruct(cursor([...lists, 0], 200)).size).toBe(0);
    expect(() => readStruct(cursor([...lists, 0], 199))).toThrow(/list of 10 elements/);
  });
});
