// The header of a GGUF version 3 file as bytes.
//
// Metadata keeps the caller's order and exact types; tensors keep the caller's order, with offsets that are the running
// sum of their sizes padded to the alignment. Shapes are row-major here and reversed in the file.
// Source: the GGUF specification (ggml-org/ggml, docs/gguf.md). Runs in Node and the browser.

import { userError } from '../errors.ts';
import type { GgmlType } from '../formats/ggml/types.ts';
import type { MetadataValue } from './checkpoint.ts';
import { ggmlOfDtype } from './ggml-storage.ts';
import {
  alignUp,
  defaultAlignment,
  type GgufEntry,
  type GgufScalar,
  ggufArray,
  ggufScalarBytes,
  ggufScalars,
  maxTensorNameBytes,
} from './gguf-types.ts';

export interface GgufTensorInfo {
  readonly name: string;
  /** `F32`, `F16`, `BF16`, …, or `ggml:q4_k`. */
  readonly dtype: string;
  /** Row-major, at most 4 dimensions; K, the last, must be a multiple of the type's block. */
  readonly shape: readonly number[];
  readonly byteLength: number;
}

/** Everything before the first tensor, padding included. `file` is for messages. */
export function printGgufHeader(
  metadata: readonly GgufEntry[],
  tensors: readonly GgufTensorInfo[],
  alignment: number,
  file = 'gguf',
): Uint8Array {
  const entries = withAlignment(metadata, alignment, file);
  const out = new ByteBuffer();
  out.text('GGUF');
  out.u32(3);
  out.u64(BigInt(tensors.length));
  out.u64(BigInt(entries.length));
  const keys = new Set<string>();
  for (const entry of entries) {
    if (keys.has(entry.key) || entry.key === '')
      fail(file, 'key', 'a metadata key is empty or stands twice', entry.key);
    keys.add(entry.key);
    printEntry(out, entry, file);
  }
  const names = new Set<string>();
  let offset = 0;
  for (const tensor of tensors) {
    if (names.has(tensor.name))
      fail(file, 'duplicate-tensor', 'two tensors have the same name', undefined, { tensor: tensor.name });
    names.add(tensor.name);
    const type = checkTensor(tensor, file);
    out.string(tensor.name);
    out.u32(tensor.shape.length);
    for (const d of [...tensor.shape].reverse()) out.u64(BigInt(d));
    out.u32(type.id);
    out.u64(BigInt(offset));
    offset += alignUp(tensor.byteLength, alignment);
  }
  return out.finish(alignment);
}

function fail(file: string, code: string, problem: string, key?: string, more: object = {}): never {
  const where = key === undefined ? '' : ` (key ${JSON.stringify(key)})`;
  throw userError({ code: `gguf-${code}`, op: 'write gguf', problem: problem + where, file, ...more });
}

function withAlignment(metadata: readonly GgufEntry[], alignment: number, file: string): readonly GgufEntry[] {
  if (
    !Number.isSafeInteger(alignment) ||
    alignment < 1 ||
    !Number.isInteger(Math.log2(alignment)) ||
    alignment > 2 ** 31
  )
    fail(file, 'alignment', 'the alignment must be a power of two', undefined, { got: alignment });
  const entry = metadata.find((e) => e.key === 'general.alignment');
  if (entry && (entry.type !== 'u32' || entry.value !== alignment))
    fail(file, 'alignment', 'general.alignment differs from the alignment of the file', entry.key, {
      got: `${entry.type} ${entry.value}`,
      expected: `u32 ${alignment}`,
    });
  if (entry || alignment === defaultAlignment) return metadata;
  return [...metadata, { key: 'general.alignment', type: 'u32', value: alignment }];
}

function checkTensor(tensor: GgufTensorInfo, file: string): GgmlType {
  const { name, dtype, shape, byteLength } = tensor;
  const wrong = (code: string, problem: string, more: object) =>
    fail(file, code, problem, undefined, { tensor: name, ...more });
  const nameBytes = new TextEncoder().encode(name).byteLength;
  if (nameBytes > maxTensorNameBytes || nameBytes === 0)
    wrong('name', 'a tensor name must have 1 to 63 bytes', { got: nameBytes });
  const type = ggmlOfDtype(dtype);
  if (!type) return wrong('dtype', 'GGUF has no such tensor type', { got: dtype });
  if (shape.length > 4) wrong('rank', 'a tensor has too many dimensions', { got: shape.length, expected: '≤ 4' });
  const k = shape[shape.length - 1] ?? 1;
  if (k % type.block !== 0)
    wrong('block', `rows of ${type.label} must be a multiple of the block`, {
      got: `K = ${k}`,
      expected: `a multiple of ${type.block}`,
      fix: 'choose F16 or a type with a smaller block for this tensor',
    });
  const bytes = (shape.reduce((product, d) => product * d, 1) / type.block) * type.bytes;
  if (bytes !== byteLength)
    wrong('size', `the bytes do not fit ${type.label} and shape [${shape.join(', ')}]`, {
      got: byteLength,
      expected: bytes,
    });
  return type;
}

function printEntry(out: ByteBuffer, entry: GgufEntry, file: string): void {
  const { key, type, value } = entry;
  out.string(key);
  if (!type.endsWith('[]')) {
    out.u32(scalarId(type as GgufScalar));
    printScalar(out, type as GgufScalar, value, key, file);
    return;
  }
  const scalar = type.slice(0, -2) as GgufScalar;
  const items = typeof value === 'object' ? value : fail(file, 'value', `an array of ${scalar} is needed`, key);
  out.u32(ggufArray);
  out.u32(scalarId(scalar));
  out.u64(BigInt(items.length));
  for (const item of items) printScalar(out, scalar, item, key, file);
}

const scalarId = (type: GgufScalar) => ggufScalars.indexOf(type);

const integerRanges: Partial<Record<GgufScalar, readonly [bigint, bigint]>> = {
  u8: [0n, 255n],
  i8: [-128n, 127n],
  u16: [0n, 65535n],
  i16: [-32768n, 32767n],
  u32: [0n, 2n ** 32n - 1n],
  i32: [-(2n ** 31n), 2n ** 31n - 1n],
  u64: [0n, 2n ** 64n - 1n],
  i64: [-(2n ** 63n), 2n ** 63n - 1n],
};

function printScalar(out: ByteBuffer, type: GgufScalar, value: MetadataValue, key: string, file: string): void {
  const wrong = (): never => fail(file, 'value', `the value is no ${type}`, key, { got: String(value).slice(0, 60) });
  if (type === 'string') out.string(typeof value === 'string' ? value : wrong());
  else if (type === 'bool') out.bytes(Uint8Array.of((typeof value === 'boolean' ? value : wrong()) ? 1 : 0));
  else if (type === 'f32') out.bytes(float32(typeof value === 'number' ? value : wrong()));
  else if (type === 'f64') out.bytes(float64(typeof value === 'number' ? value : wrong()));
  else out.bytes(integerBytes(type, value) ?? wrong());
}

/** Through bigint, two's complement: one rule for every width. */
function integerBytes(type: GgufScalar, value: MetadataValue): Uint8Array | undefined {
  if (typeof value !== 'bigint' && !(typeof value === 'number' && Number.isSafeInteger(value))) return undefined;
  const [least, most] = integerRanges[type]!;
  let integer = BigInt(value);
  if (integer < least || integer > most) return undefined;
  const bytes = new Uint8Array(ggufScalarBytes[type]);
  for (let i = 0; i < bytes.length; i++, integer >>= 8n) bytes[i] = Number(integer & 255n);
  return bytes;
}

const float32 = (x: number) => new Uint8Array(Float32Array.of(x).buffer);
const float64 = (x: number) => new Uint8Array(Float64Array.of(x).buffer);

/** Grows by doubling; headers have at most some 20 MB. */
class ByteBuffer {
  private data = new Uint8Array(4096);
  private view = new DataView(this.data.buffer);
  private length = 0;
  private readonly encoder = new TextEncoder();

  bytes(bytes: Uint8Array): void {
    this.reserve(bytes.byteLength);
    this.data.set(bytes, this.length);
    this.length += bytes.byteLength;
  }

  text(text: string): number {
    // A UTF-16 unit takes at most 3 bytes.
    this.reserve(3 * text.length);
    const { written } = this.encoder.encodeInto(text, this.data.subarray(this.length));
    this.length += written;
    return written;
  }

  u32(value: number): void {
    this.reserve(4);
    this.view.setUint32(this.length, value, true);
    this.length += 4;
  }

  u64(value: bigint): void {
    this.reserve(8);
    this.view.setBigUint64(this.length, value, true);
    this.length += 8;
  }

  string(text: string): void {
    const at = this.length;
    this.u64(0n);
    const written = this.text(text);
    this.view.setBigUint64(at, BigInt(written), true);
  }

  finish(alignment: number): Uint8Array {
    this.bytes(new Uint8Array(alignUp(this.length, alignment) - this.length));
    return this.data.slice(0, this.length);
  }

  private reserve(count: number): void {
    if (this.length + count <= this.data.byteLength) return;
    const grown = new Uint8Array(Math.max(2 * this.data.byteLength, this.length + count));
    grown.set(this.data.subarray(0, this.length));
    this.data = grown;
    this.view = new DataView(grown.buffer);
  }
}
