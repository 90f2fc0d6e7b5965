// Moving codes between this project's packing and ggml's blocks, without rounding.
//
// Problem: MXFP4, NVFP4, INT4 and INT8 mean the same numbers everywhere but lie differently in memory. Here codes are
// consecutive (element 2i in the low nibble of byte i) and scales are apart; ggml keeps each block's scale beside its
// codes and splits a block in halves: byte j holds element j in the low nibble and element j + n/2 in the high one.
//   MXFP4  32 values: E8M0 byte, 16 code bytes. ggml reads 2^(e−128) × doubled E2M1 values: the same number.
//   NVFP4  64 values: four E4M3 bytes, then 4 × 8 code bytes, each 16 values in halves of 8. The tensor's f32 scale is
//          not in the blocks: it is a tensor of its own, `<name>.scale`, multiplied after the matrix product.
//   Q4_0   32 values: f16 scale, 16 bytes; the nibble is q + 8.   Q8_0: f16 scale, 32 signed bytes.
// Groups of a multiple of 32 (or whole rows) repeat their scale in every block. Integer scales must be f16 numbers.
// It does not do: rounding of any kind. What has no exact ggml block is refused by name in gguf-export.ts.
// Source: ggml, ggml-common.h (block layouts); checked against its dequantizers in the tests.

import { modelError } from '../errors.ts';
import { bf16Value, f16Bits, f16Value, f32FromBits } from '../formats/bits.ts';
import type { GgmlTypeName, Quantized, QuantSpec } from '../formats/format.ts';
import { ggmlRowBytes } from '../formats/ggml/types.ts';

/** The block type that holds a format's numbers exactly, undefined when none does. */
export function exactBlockType(f: QuantSpec): GgmlTypeName | undefined {
  const { granularity: g, element } = f;
  const group = g.kind === 'group' ? g.size : undefined;
  if (f.zeroPoint !== 'none' || f.choice === 'int-or-float') return undefined;
  if (element === 'e2m1' && f.scale.format === 'e8m0' && group === 32 && !f.scale.tensorScale) return 'ggml-mxfp4';
  if (element === 'e2m1' && f.scale.format === 'e4m3' && group === 16) return 'ggml-nvfp4';
  const repeats = group === undefined ? g.kind !== 'tile' : group % 32 === 0;
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
  if (type === 'ggml-mxfp4') packMxfp4(q, out, tensor);
  else if (type === 'ggml-nvfp4') packNvfp4(q, out, tensor);
  else packIntegers(q, format, type === 'q4_0' ? 4 : 8, out, tensor);
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

function packMxfp4(q: Quantized, out: Uint8Array, tensor: string): void {
  for (let b = 0; b < q.scales.length; b++) {
    if (q.scales[b] === 255) throw badScale(tensor, b, 'NaN', 'a finite E8M0 scale');
    out[b * 17] = q.scales[b];
    halves(q.codes, b * 16, 32, out, b * 17 + 1);
  }
}

function packNvfp4(q: Quantized, out: Uint8Array, tensor: string): void {
  for (let b = 0; b < q.scales.length; b++) {
    const scale = q.scales[b];
    // ggml reads the byte without its sign, and 0x7f as 0
    if (scale >= 0x7f && scale !== 0x80) throw badScale(tensor, b, `E4M3 code ${scale}`, 'a scale from 0 to 448');
    const at = (b >> 2) * 36;
    out[at + (b & 3)] = scale & 0x7f;
    halves(q.codes, b * 8, 16, out, at + 4 + (b & 3) * 8);
  }
}

function packIntegers(q: Quantized, f: QuantSpec, bits: 4 | 8, out: Uint8Array, tensor: string): void {
  const blocks = q.cols / 32;
  const stride = bits === 4 ? 18 : 34;
  const scaleAt = scaleReader(q, f);
  for (let row = 0; row < q.rows; row++)
    for (let b = 0; b < blocks; b++) {
      const scale = scaleAt(row, b * 32);
      const code = f16Bits(scale);
      if (f16Value(code) !== scale) throw badScale(tensor, row, scale, 'a scale that f16 holds exactly');
      const at = (row * blocks + b) * stride;
      out[at] = code & 255;
      out[at + 1] = code >> 8;
      const from = ((row * blocks + b) * 32 * bits) / 8;
      if (bits === 8) out.set(q.codes.subarray(from, from + 32), at + 2);
      else {
        halves(q.codes, from, 32, out, at + 2);
        for (let j = 0; j < 16; j++) out[at + 2 + j] ^= 0x88; // two's complement → q + 8
      }
    }
}

/** The scale that covers element (row, col), as an f32 value. */
function scaleReader(q: Quantized, f: QuantSpec): (row: number, col: number) => number {
  const view = new DataView(q.scales.buffer, q.scales.byteOffset, q.scales.byteLength);
  const value = (i: number) => {
    if (f.scale.format === 'f32') return f32FromBits(view.getUint32(4 * i, true));
    const code = view.getUint16(2 * i, true);
    return f.scale.format === 'f16' ? f16Value(code) : bf16Value(code);
  };
  const { granularity: g } = f;
  if (g.kind === 'group') {
    const groups = Math.ceil(q.cols / g.size);
    return (row, col) => value(row * groups + Math.floor(col / g.size));
  }
  return g.kind === 'tensor' ? () => value(0) : (row) => value(row);
}

const badScale = (tensor: string, row: number, got: string | number, expected: string) =>
  modelError({
    code: 'gguf-scale',
    op: 'write GGUF',
    problem: `scale ${row} cannot be stored in a ggml block without rounding`,
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
