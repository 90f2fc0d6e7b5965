// Moving codes between this project's packing and ggml's blocks, without rounding.
//
// Problem: MXFP4, NVFP4, INT4 and INT8 mean the same numbers everywhere but lie differently in memory. Here codes are
// consecutive (element 2i in the low nibble of byte i) and scales are apart; ggml keeps each block's scale beside its
// codes and splits a block in halves: byte j holds element j in the low nibble and element j + n/2 in the high one.
//   MXFP4  32 values: E8M0 byte, 16 code bytes. ggml reads 2^(e−128) × doubled E2M1 values: the same number.
//   NVFP4  64 values: four E4M3 bytes, then 4 × 8 code bytes, each 16 values in halves of 8. The tensor's f32 scale is
//          not in the blocks: it is a tensor of its own, `<name>.scale`, multiplied after the matrix product.
//   Q4_0   32 values: f16 scale, 16 bytes; the nibble is q + 8.   Q8_0: f16 scale, 32 signed bytes.
// Groups and tiles of a multiple of 32 columns (or whole rows) repeat their scale in every block. Integer scales must be f16 numbers.
// It does not do: rounding of any kind. What has no exact ggml block is refused by name in gguf-export.ts.
// Source: ggml, ggml-common.h (block layouts); checked against its dequantizers in the tests.

import { modelError } from '../errors.ts';
import { f16Bits, f16Value } from '../formats/bits.ts';
import type { GgmlTypeName, Quantized, QuantSpec } from '../formats/format.ts';
import { ggmlRowBytes, ggmlType } from '../formats/ggml/types.ts';
import { scaleLayout } from '../formats/layout.ts';
import { decodeScale, readScale } from '../formats/scale-format.ts';

/** The block type that holds a format's numbers exactly, undefined when none does. */
export function exactBlockType(f: QuantSpec): GgmlTypeName | undefined {
  const { granularity: g, element } = f;
  const group = g.kind === 'group' ? g.size : g.kind === 'tile' ? g.cols : undefined;
  if (f.zeroPoint !== 'none' || f.choice === 'int-or-float') return undefined;
  if (element === 'e2m1' && f.scale.format === 'e8m0' && group === 32) return 'ggml-mxfp4';
  if (element === 'e2m1' && f.scale.format === 'e4m3' && group === 16) return 'ggml-nvfp4';
  const repeats = group === undefined || group % 32 === 0;
  const floatScale = f.scale.format === 'f32' || f.scale.format === 'f16' || f.scale.format === 'bf16';
  if (!repeats || !floatScale || f.scale.tensorScale) return undefined;
  return element === 'int4' ? 'q4_0' : element === 'int8' ? 'q8_0' : undefined;
}

/**
 * The bytes of a quantized matrix as rows of ggml blocks of `exactBlockType(q.format)`; the tensor scale is left to
 * the caller. Throws a model error when a scale is no f16 number, or infinite or NaN.
 *
 * @param tensor name for messages
 */
export function toBlocks(q: Quantized, format: QuantSpec, type: GgmlTypeName, tensor: string): Uint8Array {
  const out = new Uint8Array(q.rows * ggmlRowBytes(type, q.cols));
  const { block } = ggmlType(type);
  const size = type === 'ggml-nvfp4' ? 16 : block; // values of a scale in the file
  const pack = { 'ggml-mxfp4': packMxfp4, 'ggml-nvfp4': packNvfp4, q4_0: packInt4, q8_0: packInt8 }[type as 'q4_0'];
  const { tileRows, tileCols, scaleCols } = scaleLayout(format.granularity, q.rows, q.cols);
  const perRow = q.cols / size;
  for (let b = 0; b < q.rows * perRow; b++) {
    const row = Math.floor(b / perRow);
    const scale = Math.floor(row / tileRows) * scaleCols + Math.floor(((b % perRow) * size) / tileCols);
    pack(q, b, readScale(format.scale.format, q.scales, scale), out, tensor);
  }
  return out;
}

/** n codes, two a byte, low nibble first → halves: byte j = code j | code (j + n/2) << 4. n is a multiple of 4. */
function halves(from: Uint8Array, at: number, n: number, out: Uint8Array, to: number): void {
  const half = n / 2;
  for (let j = 0; j < half; j++) {
    const low = (from[at + (j >> 1)] >> ((j & 1) * 4)) & 15;
    const k = j + half;
    out[to + j] = low | (((from[at + (k >> 1)] >> ((k & 1) * 4)) & 15) << 4);
  }
}

/** The inverse of `halves`. */
function consecutive(from: Uint8Array, at: number, n: number, out: Uint8Array, to: number): void {
  const half = n / 2;
  const code = (k: number) => (k < half ? from[at + k] & 15 : from[at + k - half] >> 4);
  for (let j = 0; j < half; j++) out[to + j] = code(2 * j) | (code(2 * j + 1) << 4);
}

/** Each writes group b of the matrix, whose scale has this code. */
function packMxfp4(q: Quantized, b: number, scale: number, out: Uint8Array, tensor: string): void {
  if (scale === 255) throw badScale(tensor, b, 'NaN', 'a finite E8M0 scale');
  out[b * 17] = scale;
  halves(q.codes, b * 16, 32, out, b * 17 + 1);
}

function packNvfp4(q: Quantized, b: number, scale: number, out: Uint8Array, tensor: string): void {
  // ggml reads the byte without its sign, and 0x7f as 0
  if (scale >= 0x7f && scale !== 0x80) throw badScale(tensor, b, `E4M3 code ${scale}`, 'a scale from 0 to 448');
  const at = (b >> 2) * 36;
  out[at + (b & 3)] = scale & 0x7f;
  halves(q.codes, b * 8, 16, out, at + 4 + (b & 3) * 8);
}

function packInt4(q: Quantized, b: number, scale: number, out: Uint8Array, tensor: string): void {
  putHalf(q, b, scale, out, b * 18, tensor);
  halves(q.codes, b * 16, 32, out, b * 18 + 2);
  for (let j = b * 18 + 2; j < (b + 1) * 18; j++) out[j] ^= 0x88; // two's complement → q + 8
}

function packInt8(q: Quantized, b: number, scale: number, out: Uint8Array, tensor: string): void {
  putHalf(q, b, scale, out, b * 34, tensor);
  out.set(q.codes.subarray(b * 32, b * 32 + 32), b * 34 + 2);
}

/** The scale as f16, which must hold it exactly. */
function putHalf(q: Quantized, b: number, scale: number, out: Uint8Array, at: number, tensor: string): void {
  const { format } = q;
  const name = format.kind === 'quant' ? format.scale.format : 'f16';
  const value = decodeScale(name, scale);
  const code = f16Bits(value);
  if (f16Value(code) !== value) throw badScale(tensor, b, value, 'a scale that f16 holds exactly');
  out[at] = code & 255;
  out[at + 1] = code >> 8;
}

const badScale = (tensor: string, group: number, got: string | number, expected: string) =>
  modelError({
    code: 'gguf-scale',
    op: 'write GGUF',
    problem: `scale of group ${group} cannot be stored in a ggml block without rounding`,
    got,
    expected,
    tensor,
    fix: 'quantize to the ggml type itself (q4_0, q8_0, mxfp4), or write safetensors',
  });

/** Codes and scales of MXFP4 or NVFP4 blocks in this project's packing; undefined when a scale byte is no number. */
export function fromFp4Blocks(
  type: 'ggml-mxfp4' | 'ggml-nvfp4',
  bytes: Uint8Array,
): { codes: Uint8Array; scales: Uint8Array } | undefined {
  const mx = type === 'ggml-mxfp4';
  const count = mx ? bytes.length / 17 : (bytes.length / 36) * 4;
  const scales = new Uint8Array(count);
  const codes = new Uint8Array(count * (mx ? 16 : 8));
  for (let b = 0; b < count; b++) {
    const at = (b >> 2) * 36;
    scales[b] = mx ? bytes[b * 17] : bytes[at + (b & 3)];
    if (mx ? scales[b] === 255 : scales[b] >= 0x7f) return undefined;
    if (mx) consecutive(bytes, b * 17 + 1, 32, codes, b * 16);
    else consecutive(bytes, at + 4 + (b & 3) * 8, 16, codes, b * 8);
  }
  return { codes, scales };
}
