// Thrift's compact protocol as far as Parquet needs it, walked with every length checked against the bytes that are left.
//
// The library that reads Parquet here allocates what a file announces; this walk goes first, so that a short file cannot
// announce much. Source: apache/thrift, doc/specs/thrift-compact-protocol.md.

/** Bytes [at, end) of a view. */
export interface Cursor {
  readonly view: DataView;
  at: number;
  readonly end: number;
  /** List elements that may still come. */
  elements: number;
}

/** A structure: whole numbers and structures by field id; other fields are passed over. */
export type Struct = ReadonlyMap<number, number | Struct>;

const deepest = 32;

/** Something that Parquet does not have, or a length beyond the end. */
export class ThriftError extends Error {}

export function readByte(cursor: Cursor): number {
  if (cursor.at >= cursor.end) throw new ThriftError('it ends in the middle');
  return cursor.view.getUint8(cursor.at++);
}

/** An unsigned number of at most 53 bits in groups of 7, lowest first. */
export function readVarint(cursor: Cursor): number {
  let value = 0;
  for (let factor = 1; factor < 2 ** 63; factor *= 128) {
    const byte = readByte(cursor);
    value += (byte & 0x7f) * factor;
    if (byte < 0x80) return value;
  }
  // 64-bit fields: sizes beyond 2^53 are no sizes, and statistics are not looked at
  if (readByte(cursor) < 0x80) return Number.POSITIVE_INFINITY;
  throw new ThriftError('a number does not end');
}

const zigzag = (value: number) => (value % 2 === 0 ? value / 2 : -(value + 1) / 2);

/** The structure that begins at the cursor, which moves behind it. */
export function readStruct(cursor: Cursor, depth = 0): Struct {
  if (depth > deepest) throw new ThriftError('it is nested too deeply');
  const fields = new Map<number, number | Struct>();
  let id = 0;
  for (;;) {
    const byte = readByte(cursor);
    const type = byte & 15;
    if (type === 0) return fields;
    id = byte >> 4 ? id + (byte >> 4) : zigzag(readVarint(cursor));
    // a field's boolean is in its type
    const value = type === 1 || type === 2 ? 2 - type : readValue(cursor, type, depth);
    if (value !== undefined) fields.set(id, value);
  }
}

function readValue(cursor: Cursor, type: number, depth: number): number | Struct | undefined {
  switch (type) {
    case 1:
    case 2:
    case 3:
      return readByte(cursor);
    case 4:
    case 5:
    case 6:
      return zigzag(readVarint(cursor));
    case 7:
      return skip(cursor, 8);
    case 8:
      return skip(cursor, readVarint(cursor));
    case 9:
      return readList(cursor, depth);
    case 12:
      return readStruct(cursor, depth + 1);
    default:
      throw new ThriftError(`it has a field of type ${type}`);
  }
}

function readList(cursor: Cursor, depth: number): undefined {
  if (depth > deepest) throw new ThriftError('it is nested too deeply');
  const byte = readByte(cursor);
  const count = byte >> 4 === 15 ? readVarint(cursor) : byte >> 4;
  cursor.elements -= count;
  if (count > cursor.end - cursor.at || cursor.elements < 0)
    throw new ThriftError(`it has a list of ${count} elements`);
  for (let i = 0; i < count; i++) readValue(cursor, byte & 15, depth + 1);
}

function skip(cursor: Cursor, bytes: number): undefined {
  if (bytes > cursor.end - cursor.at) throw new ThriftError(`it has a field of ${bytes} bytes`);
  cursor.at += bytes;
}
