// Looks at the pages of a column before a library decodes them: sizes, counts and runs must be what the column announces.
//
// A page of a few bytes can announce 2^31 values, and a run in it repeat a value as often; the decoder believes both.
// Checked here: sizes of pages within the column, decompressed sizes within bounds, numbers of values that add up, and
// every run of levels and dictionary indices within its page's number of values.
// Source: apache/parquet-format, README.md and Encodings.md.

import { brotliDecompressSync, gunzipSync, zstdDecompressSync } from 'node:zlib';
import { type Compressors, snappyUncompress } from 'hyparquet';
import { deltaBinaryUnpack } from 'hyparquet/src/delta.js';
import { readRleBitPackedHybrid } from 'hyparquet/src/encoding.js';
import { type Cursor, readByte, readStruct, readVarint, type Struct, ThriftError } from './parquet-thrift.ts';

/** What a page may hold after decompression, and the pages of a column in a row group together. */
const mostPageBytes = 2 ** 28;
const mostColumnBytes = 2 ** 30;
/** Values of a column in a row group. */
export const mostValues = 2 ** 24;

/** A column in a row group, as its metadata has it. */
export interface ColumnShape {
  readonly codec: string;
  /** Values, nulls and empty lists included. */
  readonly values: number;
  readonly boolean: boolean;
  readonly maxDefinition: number;
  readonly maxRepetition: number;
}

/** Decompression that never gives more than the page announces. */
export const compressors: Compressors = {
  GZIP: (input, length) => gunzipSync(input, { maxOutputLength: Math.max(length, 1) }),
  BROTLI: (input, length) => brotliDecompressSync(input, { maxOutputLength: Math.max(length, 1) }),
  ZSTD: (input, length) => zstdDecompressSync(input, { maxOutputLength: Math.max(length, 1) }),
  SNAPPY: (input, length) => {
    const output = new Uint8Array(length);
    snappyUncompress(input, output);
    return output;
  },
};

const plainDictionary = 2;
const rle = 3;
const deltaByteArray = 7;
const rleDictionary = 8;

/** Throws an error whose message says what is wrong with the pages in `bytes`. */
export function checkPages(bytes: Uint8Array, column: ColumnShape): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const cursor: Cursor = { view, at: 0, end: bytes.byteLength, elements: bytes.byteLength };
  let values = 0;
  let decompressed = 0;
  // As the decoder does: a last single byte is no page; of lists all pages are read, else those that hold the values.
  while (cursor.at < cursor.end - 1 && (column.maxRepetition > 0 || values < column.values)) {
    const header = readStruct(cursor);
    const [type, size, stored] = [1, 2, 3].map((id) => whole(header, id));
    if (stored > cursor.end - cursor.at) throw new ThriftError(`a page announces ${stored} bytes`);
    decompressed += size;
    if (size > mostPageBytes || decompressed > mostColumnBytes)
      throw new ThriftError(`a page announces ${size} bytes after decompression, too much`);
    const page = bytes.subarray(cursor.at, cursor.at + stored);
    cursor.at += stored;
    if (type === 0) values += checkDataPage(page, size, part(header, 5), column);
    else if (type === 3) values += checkDataPageV2(page, size, part(header, 8), column);
    else if (type === 2) checkCount(whole(part(header, 7), 1));
    else throw new ThriftError(`it has a page of type ${type}`);
    if (values > column.values) throw new ThriftError('its pages hold more values than the column');
  }
  if (values !== column.values) throw new ThriftError(`its pages hold ${values} of ${column.values} values`);
}

function checkDataPage(stored: Uint8Array, size: number, header: Struct, column: ColumnShape): number {
  const count = checkCount(whole(header, 1));
  const cursor = cursorOf(decompress(stored, size, column.codec));
  if (column.maxRepetition > 0) checkPrefixedRuns(cursor, widthOf(column.maxRepetition), count);
  const levels = cursor.at;
  let nulls = 0;
  if (column.maxDefinition > 0) {
    checkPrefixedRuns(cursor, widthOf(column.maxDefinition), count);
    nulls = countNulls(cursor.view, levels, count, column.maxDefinition);
  }
  checkValues(cursor, whole(header, 2), count - nulls, column.boolean);
  return count;
}

function checkDataPageV2(stored: Uint8Array, size: number, header: Struct, column: ColumnShape): number {
  const count = checkCount(whole(header, 1));
  const [nulls, definitions, repetitions] = [2, 5, 6].map((id) => whole(header, id));
  const levels = definitions + repetitions;
  if (levels > stored.byteLength || levels > size || nulls > count) throw new ThriftError('its levels outgrow a page');
  const head = cursorOf(stored.subarray(0, levels));
  if (column.maxRepetition > 0) checkRuns({ ...head, end: repetitions }, widthOf(column.maxRepetition), count);
  if (column.maxDefinition > 0) checkRuns({ ...head, at: repetitions }, widthOf(column.maxDefinition), count);
  const rest = stored.subarray(levels);
  const packed = header.get(7) !== 0 && size > levels;
  const cursor = cursorOf(packed ? decompress(rest, size - levels, column.codec) : rest);
  const encoding = whole(header, 4);
  checkValues(cursor, encoding, count - nulls, encoding === rle);
  return count;
}

/** Values behind the levels. `single`: bits in runs behind a length; encodings not named do not repeat values. */
function checkValues(cursor: Cursor, encoding: number, count: number, single: boolean): void {
  if (encoding === rle || encoding === plainDictionary || encoding === rleDictionary) {
    if (single) checkPrefixedRuns(cursor, 1, count);
    else if (cursor.at < cursor.end) {
      const width = readByte(cursor);
      if (width > 32) throw new ThriftError(`its indices have ${width} bits`);
      if (width > 0) checkRuns(cursor, width, count);
    }
  } else if (encoding === deltaByteArray) checkPrefixes(cursor, count);
}

/** Strings that begin like the one before are written out in full: their sum is bounded. */
function checkPrefixes({ view, at }: Cursor, count: number): void {
  if (count === 0) return;
  const lengths = new Int32Array(count);
  const reader = { view, offset: at };
  let total = 0;
  for (let part = 0; part < 2; part++) {
    deltaBinaryUnpack(reader, count, lengths);
    for (const length of lengths) {
      if (length < 0) throw new ThriftError('a string has a negative length');
      total += length;
    }
  }
  if (total > mostPageBytes) throw new ThriftError(`the strings of a page have ${total} bytes, too much`);
}

function countNulls(view: DataView, offset: number, count: number, most: number): number {
  const levels: number[] = new Array(count);
  readRleBitPackedHybrid({ view, offset }, widthOf(most), levels);
  return levels.reduce((nulls, level) => (level === most ? nulls : nulls + 1), 0);
}

/** Runs behind their length in bytes, four bytes long. */
function checkPrefixedRuns(cursor: Cursor, width: number, count: number): void {
  if (cursor.end - cursor.at < 4) throw new ThriftError('a page ends in its levels');
  const length = cursor.view.getUint32(cursor.at, true);
  const end = cursor.at + 4 + length;
  if (end > cursor.end) throw new ThriftError('a page ends in its levels');
  checkRuns({ ...cursor, at: cursor.at + 4, end }, width, count);
  cursor.at = end;
}

/** Runs of one value, and runs of 8·n packed ones; the last may be filled up, or end early where only filling stood. */
function checkRuns(cursor: Cursor, width: number, count: number): void {
  for (let seen = 0; seen < count; ) {
    const header = readVarint(cursor);
    const run = Math.floor(header / 2);
    const packed = header % 2 === 1;
    const filling = seen + run * 8 < count + 8;
    seen += packed ? run * 8 : run;
    cursor.at += packed ? run * width : Math.ceil(width / 8);
    const outside = cursor.at > cursor.end && !(packed && filling && seen >= count);
    if (outside || (!packed && seen > count)) throw new ThriftError('a run outgrows its page');
  }
}

function decompress(stored: Uint8Array, size: number, codec: string): Uint8Array {
  if (codec === 'UNCOMPRESSED') return stored;
  const expand = compressors[codec as keyof Compressors];
  if (!expand)
    throw new ThriftError(`it is compressed with ${codec}, which is not read here: use snappy, gzip, brotli or zstd`);
  return expand(stored, size);
}

function checkCount(count: number): number {
  if (count > mostValues) throw new ThriftError(`a page announces ${count} values, too many`);
  return count;
}

const widthOf = (most: number) => 32 - Math.clz32(most);

const cursorOf = (bytes: Uint8Array): Cursor => ({
  view: new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength),
  at: 0,
  end: bytes.byteLength,
  elements: 0,
});

/** A number from 0 on. */
function whole(struct: Struct, id: number): number {
  const value = struct.get(id);
  if (typeof value === 'number' && value >= 0) return value;
  throw new ThriftError('a page header is not whole');
}

function part(struct: Struct, id: number): Struct {
  const value = struct.get(id);
  if (typeof value === 'object') return value;
  throw new ThriftError('a page header is not whole');
}
