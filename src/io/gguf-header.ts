// The header of a GGUF file: magic, metadata, tensor descriptions; every length checked before anything is allocated.
//
// Layout (version 3, little endian): "GGUF", u32 version, u64 tensor count, u64 key count; keys as string, u32 type,
// value; tensors as string name, u32 rank, u64 dims (innermost first), u32 type, u64 offset in the data section, which
// starts at the next multiple of the alignment. Tensors stand in the order of their descriptions, each padded to the
// alignment: holes and other orders are refused, as llama.cpp refuses them.
// Source: the GGUF specification (ggml-org/ggml, docs/gguf.md) and the checks of ggml's gguf.cpp.
//
// The parser works on a prefix of the file. When the prefix ends too early it throws HeaderIncomplete, and gguf.ts
// comes back with a longer one. Nothing here reads files.

import { modelError } from '../errors.ts';
import { ggmlTypeById } from '../formats/ggml/types.ts';
import type { MetadataValue, TensorInfo } from './checkpoint.ts';
import { dtypeOfGgml } from './ggml-storage.ts';
import {
  alignUp,
  defaultAlignment,
  type GgufEntry,
  type GgufScalar,
  type GgufType,
  ggufArray,
  ggufScalarBytes,
  ggufScalars,
  maxTensorNameBytes,
} from './gguf-types.ts';

export interface GgufHeader {
  /** In the order of the file, exact types kept. */
  entries: GgufEntry[];
  /** In the order of the file, which is the order of their data. */
  tensors: TensorInfo[];
  alignment: number;
  /** Where the data section starts. */
  dataStart: number;
}

/** The prefix ends before the header does; at least `needed` bytes of the file are necessary. */
export class HeaderIncomplete extends Error {
  readonly needed: number;
  constructor(needed: number) {
    super(`GGUF header continues to byte ${needed} at least`);
    this.needed = needed;
  }
}

/** Largest header that is read. Vocabularies of 256,000 tokens with merges take about 20 MB. */
export const maxGgufHeaderBytes = 512 * 2 ** 20;

/**
 * Most items of an array that becomes a JavaScript array: 60 times the largest vocabularies. Such an array takes up to
 * 8 times the bytes of the file.
 */
const maxArrayItems = 2 ** 24;

/** Key: 8 bytes of length, 4 of type, 1 of value. Tensor: 8 of length, 4 of rank, 4 of type, 8 of offset. */
const leastKeyBytes = 13;
const leastTensorBytes = 24;
const maxRank = 4;

/** A cursor over the prefix that knows how long the file is. */
class Cursor {
  readonly file: string;
  readonly limit: number;
  position = 0;
  private readonly bytes: Uint8Array;
  private readonly view: DataView;
  private readonly decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

  constructor(bytes: Uint8Array, fileSize: number, file: string) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.limit = Math.min(fileSize, maxGgufHeaderBytes);
    this.file = file;
  }

  fail(rule: string, problem: string, more: object = {}): never {
    throw modelError({ code: `gguf-${rule}`, op: 'read gguf', problem, file: this.file, ...more });
  }

  /** Moves over `count` bytes and gives their start. Says what the bytes were for when the file has not so many. */
  take(count: number, what: string): number {
    const start = this.position;
    const end = start + count;
    if (end > this.limit)
      this.fail('truncated', `the header ends inside ${what}: the file is truncated or a length in it is wrong`, {
        got: `${this.limit} bytes of header at most`,
        expected: `${end} at least`,
      });
    if (end > this.bytes.byteLength) throw new HeaderIncomplete(end);
    this.position = end;
    return start;
  }

  u32(what: string): number {
    return this.view.getUint32(this.take(4, what), true);
  }

  /** A count or length; `unit` bytes at least follow for each, which bounds it by the file. */
  count(what: string, unit: number): number {
    const value = this.view.getBigUint64(this.take(8, what), true);
    const most = Math.floor((this.limit - this.position) / unit);
    if (value > BigInt(most))
      this.fail('count', `${what} is more than the rest of the file can hold`, {
        got: `${value}`,
        expected: `≤ ${most}`,
      });
    return Number(value);
  }

  u64(what: string): bigint {
    return this.view.getBigUint64(this.take(8, what), true);
  }

  string(what: string): string {
    const length = this.count(`the length of ${what}`, 1);
    const start = this.take(length, what);
    try {
      return this.decoder.decode(this.bytes.subarray(start, start + length));
    } catch {
      return this.fail('utf8', `${what} is not valid UTF-8`, { got: `bytes at ${start}` });
    }
  }

  scalar(type: GgufScalar, what: string): string | number | bigint | boolean {
    if (type === 'string') return this.string(what);
    const at = this.take(ggufScalarBytes[type], what);
    switch (type) {
      case 'u8':
        return this.view.getUint8(at);
      case 'i8':
        return this.view.getInt8(at);
      case 'u16':
        return this.view.getUint16(at, true);
      case 'i16':
        return this.view.getInt16(at, true);
      case 'u32':
        return this.view.getUint32(at, true);
      case 'i32':
        return this.view.getInt32(at, true);
      case 'f32':
        return this.view.getFloat32(at, true);
      case 'u64':
        return this.view.getBigUint64(at, true);
      case 'i64':
        return this.view.getBigInt64(at, true);
      case 'f64':
        return this.view.getFloat64(at, true);
      case 'bool': {
        const byte = this.view.getUint8(at);
        if (byte > 1) this.fail('bool', `${what} is no boolean`, { got: byte, expected: '0 or 1' });
        return byte === 1;
      }
    }
  }

  array(type: GgufScalar, what: string): MetadataValue {
    const count = this.count(`the count of ${what}`, ggufScalarBytes[type]);
    if (type === 'f32' || type === 'i32') {
      const start = this.take(count * 4, what);
      const copy = this.bytes.slice(start, start + count * 4);
      // Every platform that runs Node or a browser is little endian.
      return type === 'f32' ? new Float32Array(copy.buffer) : new Int32Array(copy.buffer);
    }
    if (count > maxArrayItems)
      this.fail('count', `${what} is longer than any real array`, { got: count, expected: `≤ ${maxArrayItems}` });
    if (type !== 'string') {
      // All of the bytes first, so that a short prefix is noticed before any item is made.
      this.take(count * ggufScalarBytes[type], what);
      this.position -= count * ggufScalarBytes[type];
    }
    const items: MetadataValue[] = [];
    for (let i = 0; i < count; i++) items.push(this.scalar(type, what));
    return items;
  }
}

/**
 * Parses and checks the header.
 *
 * prefix: the first bytes of the file, as many as are at hand; fileSize: bytes of the whole file. Throws a model error
 * with file, key or tensor when a rule is broken, HeaderIncomplete when the prefix is too short.
 */
export function parseGgufHeader(prefix: Uint8Array, fileSize: number, file: string): GgufHeader {
  const cursor = new Cursor(prefix, fileSize, file);
  checkVersion(cursor, prefix);
  const tensorCount = cursor.count('the tensor count', leastTensorBytes);
  const keyCount = cursor.count('the key count', leastKeyBytes);
  const entries = readEntries(cursor, keyCount);
  const alignment = readAlignment(cursor, entries);
  const raw = readDescriptions(cursor, tensorCount);
  const dataStart = alignUp(cursor.position, alignment);
  return { entries, tensors: place(cursor, raw, dataStart, alignment, fileSize), alignment, dataStart };
}

function checkVersion(cursor: Cursor, prefix: Uint8Array): void {
  const magic = cursor.take(4, 'the magic');
  if (String.fromCharCode(...prefix.subarray(magic, magic + 4)) !== 'GGUF')
    cursor.fail('magic', 'the file does not start with "GGUF": this is no GGUF file');
  const version = cursor.u32('the version');
  if (version === 3) return;
  if (version !== 0 && (version & 0xffff) === 0)
    cursor.fail('endian', 'the file is big-endian, only little-endian GGUF is read', {
      fix: 'convert it with gguf_convert_endian.py of llama.cpp',
    });
  cursor.fail('version', 'unsupported GGUF version', {
    got: version,
    expected: 3,
    fix: 'write the file anew with a current llama.cpp, for example `llama-quantize old.gguf new.gguf COPY`',
  });
}

function readEntries(cursor: Cursor, count: number): GgufEntry[] {
  const entries: GgufEntry[] = [];
  const seen = new Set<string>();
  for (let i = 0; i < count; i++) {
    const key = cursor.string(`the name of key ${i}`);
    if (seen.has(key)) cursor.fail('duplicate-key', `metadata key ${quote(key)} stands twice`);
    seen.add(key);
    const what = `metadata key ${quote(key)}`;
    const id = cursor.u32(`the type of ${what}`);
    const elementId = id === ggufArray ? cursor.u32(`the element type of ${what}`) : id;
    const scalar = ggufScalars[elementId];
    if (scalar === undefined) cursor.fail('type', `${what} has an unknown type`, { got: elementId });
    const type: GgufType = id === ggufArray ? `${scalar}[]` : scalar;
    const value = id === ggufArray ? cursor.array(scalar, what) : cursor.scalar(scalar, what);
    entries.push({ key, type, value });
  }
  return entries;
}

function readAlignment(cursor: Cursor, entries: readonly GgufEntry[]): number {
  const entry = entries.find((e) => e.key === 'general.alignment');
  if (!entry) return defaultAlignment;
  const value = entry.value;
  if (entry.type !== 'u32' || typeof value !== 'number' || value === 0 || !Number.isInteger(Math.log2(value)))
    cursor.fail('alignment', 'general.alignment must be a power of two of type u32', {
      got: `${entry.type} ${String(value).slice(0, 40)}`,
    });
  return value;
}

interface Description {
  name: string;
  dims: bigint[];
  typeId: number;
  offset: bigint;
}

function readDescriptions(cursor: Cursor, count: number): Description[] {
  const descriptions: Description[] = [];
  const seen = new Set<string>();
  for (let i = 0; i < count; i++) {
    const name = cursor.string(`the name of tensor ${i}`);
    const bytes = new TextEncoder().encode(name).byteLength;
    if (bytes > maxTensorNameBytes)
      cursor.fail('name', 'a tensor name is too long', {
        tensor: quote(name),
        got: `${bytes} bytes`,
        expected: `at most ${maxTensorNameBytes}`,
      });
    if (seen.has(name)) cursor.fail('duplicate-tensor', 'two tensors have the same name', { tensor: name });
    seen.add(name);
    const rank = cursor.u32(`the rank of tensor ${name}`);
    if (rank > maxRank)
      cursor.fail('rank', 'a tensor has too many dimensions', { tensor: name, got: rank, expected: `≤ ${maxRank}` });
    const dims: bigint[] = [];
    for (let d = 0; d < rank; d++) dims.push(cursor.u64(`the dimensions of tensor ${name}`));
    const typeId = cursor.u32(`the type of tensor ${name}`);
    descriptions.push({ name, dims, typeId, offset: cursor.u64(`the offset of tensor ${name}`) });
  }
  return descriptions;
}

/** Sizes in exact arithmetic, then the rule that offsets are the running padded sum. */
function place(
  cursor: Cursor,
  descriptions: readonly Description[],
  dataStart: number,
  alignment: number,
  fileSize: number,
): TensorInfo[] {
  let next = 0;
  return descriptions.map(({ name, dims, typeId, offset }) => {
    const type = ggmlTypeById(typeId);
    if (!type) return cursor.fail('tensor-type', 'unknown or removed ggml type', { tensor: name, got: typeId });
    const k = dims[0] ?? 1n;
    if (k % BigInt(type.block) !== 0n)
      cursor.fail('block', `rows of ${type.label} must be a multiple of the block`, {
        tensor: name,
        got: `K = ${k}`,
        expected: `a multiple of ${type.block}`,
      });
    const elements = dims.reduce((product, d) => product * d, 1n);
    const bytes = (elements / BigInt(type.block)) * BigInt(type.bytes);
    if (offset !== BigInt(next))
      cursor.fail('offset', 'the tensors do not follow each other without hole or overlap', {
        tensor: name,
        got: `offset ${offset}`,
        expected: `offset ${next}`,
      });
    const end = BigInt(dataStart + next) + bytes;
    if (end > BigInt(fileSize) || dims.some((d) => d > BigInt(Number.MAX_SAFE_INTEGER)))
      cursor.fail('bounds', 'the data runs past the end of the file, which is truncated or damaged', {
        tensor: name,
        got: `${fileSize} bytes`,
        expected: `at least ${end}`,
        fix: 'download the file again',
      });
    const info: TensorInfo = {
      name,
      dtype: dtypeOfGgml(type),
      shape: dims.map(Number).reverse(),
      file: cursor.file,
      byteOffset: dataStart + next,
      byteLength: Number(bytes),
    };
    next = alignUp(next + Number(bytes), alignment);
    return info;
  });
}

/** A name from the file, short and printable. */
function quote(name: string): string {
  return JSON.stringify(name.length > 80 ? `${name.slice(0, 80)}…` : name);
}
