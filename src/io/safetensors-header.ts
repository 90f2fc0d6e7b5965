// The header of a safetensors file: parsed with every rule of the format checked, and printed as the reference writer
// prints it.
//
// Layout: u64 header length H (little endian), H bytes of UTF-8 JSON that start with `{`, then the data buffer. The
// JSON maps each tensor's name to { dtype, shape, data_offsets: [begin, end] }, offsets relative to the buffer, and
// `__metadata__` to a map of strings. The ranges tile the buffer: no holes, no overlap, the last one ends at its end.
// Source: the safetensors format description and the reference implementation's validation (huggingface/safetensors).
//
// Nothing here reads files; safetensors.ts does.

import { modelError } from '../errors.ts';
import type { TensorInfo } from './checkpoint.ts';
import { findDuplicateKey } from './json-keys.ts';

/** Bits of every dtype, in the order of the reference implementation, which is its order of alignment. */
export const safetensorsBits: Readonly<Record<string, number>> = {
  BOOL: 8,
  F4: 4,
  F6_E2M3: 6,
  F6_E3M2: 6,
  U8: 8,
  I8: 8,
  F8_E5M2: 8,
  F8_E4M3: 8,
  F8_E8M0: 8,
  F8_E4M3FNUZ: 8,
  F8_E5M2FNUZ: 8,
  I16: 16,
  U16: 16,
  F16: 16,
  BF16: 16,
  I32: 32,
  U32: 32,
  F32: 32,
  C64: 64,
  F64: 64,
  I64: 64,
  U64: 64,
};

/** The format's limit of the header length in bytes. */
export const maxHeaderBytes = 100_000_000;

/** More dimensions than any framework has; bounds the work on a hostile shape. */
const maxRank = 64;

export interface SafetensorsHeader {
  /** In the order of their offsets. byteOffset counts from the start of the file. */
  tensors: TensorInfo[];
  metadata: Map<string, string>;
}

function fail(file: string, rule: string, problem: string, more: object = {}): never {
  throw modelError({ code: `safetensors-${rule}`, op: 'read safetensors', problem, file, ...more });
}

/**
 * The header length from the first 8 bytes, checked against the format's limit and the size of the file, so that the
 * caller can allocate it.
 */
export function parseHeaderLength(prefix: Uint8Array, fileSize: number, file: string): number {
  if (fileSize < 10)
    fail(file, 'short', 'the file is too short for a safetensors header', { got: `${fileSize} bytes` });
  const view = new DataView(prefix.buffer, prefix.byteOffset, 8);
  const length = view.getBigUint64(0, true);
  if (length > BigInt(maxHeaderBytes))
    fail(file, 'header-length', 'the header length is above the format limit', {
      got: `${length} bytes`,
      expected: `at most ${maxHeaderBytes}`,
      fix: 'the file is damaged or no safetensors file: download it again',
    });
  if (length > BigInt(fileSize - 8))
    fail(file, 'header-length', 'the header is longer than the file, which is truncated or damaged', {
      got: `${length} bytes in a file of ${fileSize}`,
      fix: 'download the file again',
    });
  return Number(length);
}

/**
 * Parses and checks the JSON header.
 *
 * json: the H header bytes; fileSize: bytes of the whole file. Throws a model error naming file and tensor when any
 * rule of the format is broken.
 */
export function parseSafetensorsHeader(json: Uint8Array, fileSize: number, file: string): SafetensorsHeader {
  const entries = parseJson(json, file);
  const dataStart = 8 + json.byteLength;
  const metadata = new Map<string, string>();
  const tensors: TensorInfo[] = [];
  for (const [name, entry] of Object.entries(entries)) {
    if (name === '__metadata__') readMetadata(entry, metadata, file);
    else tensors.push(readEntry(name, entry, dataStart, file));
  }
  tensors.sort((a, b) => a.byteOffset - b.byteOffset || a.byteLength - b.byteLength);
  checkTiling(tensors, dataStart, fileSize, file);
  return { tensors, metadata };
}

function parseJson(json: Uint8Array, file: string): Record<string, unknown> {
  if (json[0] !== 0x7b) fail(file, 'json', 'the header does not start with "{": this is no safetensors file');
  let text: string;
  let value: unknown;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(json);
    value = JSON.parse(text);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message.slice(0, 120) : String(cause);
    fail(file, 'json', `the header is no valid JSON in UTF-8 (${reason})`);
  }
  const duplicate = findDuplicateKey(text);
  if (duplicate !== undefined)
    fail(file, 'duplicate', 'a key stands twice in the header', { got: JSON.stringify(duplicate) });
  return value as Record<string, unknown>;
}

function readMetadata(entry: unknown, metadata: Map<string, string>, file: string): void {
  if (typeof entry !== 'object' || entry === null || Array.isArray(entry))
    fail(file, 'metadata', '__metadata__ must be a map of strings');
  for (const [key, value] of Object.entries(entry)) {
    if (typeof value !== 'string')
      fail(file, 'metadata', `the value of __metadata__ key ${JSON.stringify(key)} must be a string`);
    metadata.set(key, value);
  }
}

const isSize = (x: unknown): x is number => typeof x === 'number' && Number.isSafeInteger(x) && x >= 0;

function readEntry(name: string, entry: unknown, dataStart: number, file: string): TensorInfo {
  const wrong = (rule: string, problem: string, more: object = {}) =>
    fail(file, rule, problem, { tensor: name, ...more });
  if (typeof entry !== 'object' || entry === null) return wrong('entry', 'the header entry must be an object');
  const { dtype, shape, data_offsets: offsets } = entry as Record<string, unknown>;
  if (typeof dtype !== 'string' || !Object.hasOwn(safetensorsBits, dtype))
    return wrong('dtype', 'unknown dtype', { got: String(JSON.stringify(dtype)).slice(0, 60) });
  if (!Array.isArray(shape) || shape.length > maxRank || !shape.every(isSize))
    return wrong('shape', `the shape must be a list of at most ${maxRank} non-negative integers`);
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isSize))
    return wrong('offsets', 'data_offsets must be two non-negative integers');
  const [begin, end] = offsets as [number, number];
  if (begin > end) return wrong('offsets', 'data_offsets run backwards', { got: `[${begin}, ${end}]` });
  const bits = elementBits(shape, dtype);
  if (bits % 8n !== 0n) return wrong('size', 'a sub-byte tensor must end on a byte boundary', { got: `${bits} bits` });
  if (bits / 8n !== BigInt(end - begin))
    return wrong('size', `the bytes do not fit dtype ${dtype} and shape [${shape.join(', ')}]`, {
      got: end - begin,
      expected: String(bits / 8n),
    });
  return { name, dtype, shape, file, byteOffset: dataStart + begin, byteLength: end - begin };
}

/** Exact, however large the dimensions are. */
function elementBits(shape: readonly number[], dtype: string): bigint {
  return shape.reduce((product, d) => product * BigInt(d), BigInt(safetensorsBits[dtype]));
}

function checkTiling(tensors: TensorInfo[], dataStart: number, fileSize: number, file: string): void {
  let end = dataStart;
  for (const t of tensors) {
    const at = { tensor: t.name, got: `begin ${t.byteOffset - dataStart}`, expected: `begin ${end - dataStart}` };
    if (t.byteOffset < end) fail(file, 'overlap', 'the data overlaps the tensor before it', at);
    if (t.byteOffset > end) fail(file, 'hole', 'the data leaves a hole after the tensor before it', at);
    end += t.byteLength;
    if (end > fileSize)
      fail(file, 'truncated', 'the data runs past the end of the file, which is truncated or damaged', {
        tensor: t.name,
        got: `${fileSize} bytes`,
        expected: `at least ${end}`,
        fix: 'download the file again',
      });
  }
  if (end !== fileSize)
    fail(file, 'trailing', 'bytes follow the last tensor', { got: `${fileSize} bytes`, expected: end });
}

export interface TensorLayout {
  readonly name: string;
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly byteLength: number;
}

/**
 * The order in which the reference implementation stores tensors: wider dtypes first (its dtype enumeration
 * backwards), then by the bytes of the name.
 */
export function referenceOrder<T extends TensorLayout>(tensors: readonly T[]): T[] {
  const rank = new Map(Object.keys(safetensorsBits).map((dtype, i) => [dtype, i]));
  return [...tensors].sort((a, b) => rank.get(b.dtype)! - rank.get(a.dtype)! || compareBytes(a.name, b.name));
}

/** By UTF-8 bytes, which is by code points; JavaScript's own order is by UTF-16 units. */
function compareBytes(a: string, b: string): number {
  if (a === b) return 0;
  const [x, y] = [new TextEncoder().encode(a), new TextEncoder().encode(b)];
  const n = Math.min(x.length, y.length);
  for (let i = 0; i < n; i++) if (x[i] !== y[i]) return x[i] - y[i];
  return x.length - y.length;
}

/**
 * Length prefix and JSON of a file that holds `tensors` in the given order, padded with spaces so that the data
 * starts at a multiple of 8.
 */
export function printSafetensorsHeader(
  tensors: readonly TensorLayout[],
  metadata: Readonly<Record<string, string>> = {},
): Uint8Array {
  const parts: string[] = [];
  if (Object.keys(metadata).length > 0) parts.push(`"__metadata__":${JSON.stringify(metadata)}`);
  let begin = 0;
  for (const t of tensors) {
    const offsets = [begin, begin + t.byteLength];
    parts.push(
      `${JSON.stringify(t.name)}:${JSON.stringify({ dtype: t.dtype, shape: t.shape, data_offsets: offsets })}`,
    );
    begin += t.byteLength;
  }
  const json = new TextEncoder().encode(`{${parts.join(',')}}`);
  const length = Math.ceil(json.byteLength / 8) * 8;
  const bytes = new Uint8Array(8 + length).fill(0x20, 8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(length), true);
  bytes.set(json, 8);
  return bytes;
}
