// Quantized matrices as the tensors that compressed-tensors stores for one linear layer, and back. Bytes only move:
// nothing is rounded, except that NVFP4's second-level scale is stored as its reciprocal.
//
//   pack-quantized  weight_packed I32 [N, ⌈K·b/32⌉]: code + 2^(b−1), element 0 in the lowest bits of word 0, rows padded
//                   to a word; weight_scale [N, K/g] or [N, 1]; weight_shape I64 [2] = N, K; with zero points
//                   weight_zero_point I32 [⌈N·b/32⌉, K/g], packed along rows, with the same offset
//   int, float      weight I8 or F8_E4M3 [N, K]; weight_scale [1], [N, 1] or [⌈N/r⌉, ⌈K/c⌉]
//   nvfp4           weight_packed U8 [N, K/2], low nibble first; weight_scale F8_E4M3 [N, K/16];
//                   weight_global_scale F32 [1], a divisor: 1 / tensorScale
//   mxfp4, mxfp8    weight_packed U8 [N, K/2] or weight F8_E4M3 [N, K]; weight_scale U8 [N, K/32], E8M0 bytes
// A reciprocal that gives the tensor scale back exactly is taken where one exists (always for the rule
// `compressed-tensors`, about half of all f32 otherwise); else the nearest, one unit in the last place off.
// Source: compressed-tensors' compressors; the worked 4-bit example in the tests.

import { bf16Value, f16Value } from '../formats/bits.ts';
import type { Quantized, QuantSpec, ScaleFormat } from '../formats/format.ts';
import { scaleLayout } from '../formats/layout.ts';
import { packedRowBytes } from '../formats/packing.ts';
import { scaleBytes } from '../formats/scale-format.ts';
import type { CompressedFormat } from './compressed-tensors-scheme.ts';

/** One stored tensor of a layer. */
export interface Part {
  /** `weight_packed`, `weight_scale`, … */
  suffix: string;
  dtype: string;
  shape: number[];
  byteLength: number;
  /** Its bytes, from the quantized matrix. */
  bytes(q: Quantized): Uint8Array;
}

const dtypeOfScale: Partial<Record<ScaleFormat, string>> = { f32: 'F32', f16: 'F16', bf16: 'BF16' };

/** Every tensor of a layer [rows, cols] in this format, widest element type first. */
export function partsOf(format: CompressedFormat, spec: QuantSpec, rows: number, cols: number): Part[] {
  const codes = (suffix: string, dtype: string, bits: number): Part => ({
    suffix,
    dtype,
    shape: [rows, (cols * bits) / 8],
    byteLength: (rows * cols * bits) / 8,
    bytes: (q) => q.codes,
  });
  if (format === 'pack-quantized') return packedParts(spec, rows, cols);
  if (format === 'mxfp4-pack-quantized')
    return [codes('weight_packed', 'U8', 4), rowScales(spec, rows, cols, 32, 'U8')];
  if (format === 'mxfp8-quantized') return [codes('weight', 'F8_E4M3', 8), rowScales(spec, rows, cols, 32, 'U8')];
  if (format === 'nvfp4-pack-quantized') {
    const global: Part = {
      suffix: 'weight_global_scale',
      dtype: 'F32',
      shape: [1],
      byteLength: 4,
      bytes: (q) => new Uint8Array(Float32Array.of(globalScale(q.tensorScale)).buffer),
    };
    return [global, codes('weight_packed', 'U8', 4), rowScales(spec, rows, cols, 16, 'F8_E4M3')];
  }
  return [scalePart(spec, rows, cols), codes('weight', format === 'int-quantized' ? 'I8' : 'F8_E4M3', 8)];
}

function packedParts(spec: QuantSpec, rows: number, cols: number): Part[] {
  const bits = spec.element === 'int4' ? 4 : 8;
  const words = Math.ceil((cols * bits) / 32);
  const symmetric = spec.zeroPoint === 'none';
  const { scaleCols } = scaleLayout(spec.granularity, rows, cols);
  const parts: Part[] = [
    {
      suffix: 'weight_shape',
      dtype: 'I64',
      shape: [2],
      byteLength: 16,
      bytes: () => new Uint8Array(BigInt64Array.of(BigInt(rows), BigInt(cols)).buffer),
    },
    {
      suffix: 'weight_packed',
      dtype: 'I32',
      shape: [rows, words],
      byteLength: rows * words * 4,
      bytes: (q) => packWords(q.codes, rows, cols, bits, symmetric),
    },
  ];
  const zeroRows = Math.ceil((rows * bits) / 32);
  if (!symmetric)
    parts.push({
      suffix: 'weight_zero_point',
      dtype: 'I32',
      shape: [zeroRows, scaleCols],
      byteLength: zeroRows * scaleCols * 4,
      bytes: (q) => packZeroPoints(q.zeroPoints as Uint8Array, rows, scaleCols, bits),
    });
  parts.push(scalePart(spec, rows, cols));
  return parts;
}

/** Scales in their own float format: [1], [N, 1], [N, K/g] or the grid of tiles. */
function scalePart(spec: QuantSpec, rows: number, cols: number): Part {
  const { scaleRows, scaleCols } = scaleLayout(spec.granularity, rows, cols);
  return {
    suffix: 'weight_scale',
    dtype: dtypeOfScale[spec.scale.format] as string,
    shape: spec.granularity.kind === 'tensor' ? [1] : [scaleRows, scaleCols],
    byteLength: scaleRows * scaleCols * scaleBytes(spec.scale.format),
    bytes: (q) => q.scales,
  };
}

/** One-byte scales of groups along the row; those of tiles are repeated for each of their rows. */
function rowScales(spec: QuantSpec, rows: number, cols: number, size: number, dtype: string): Part {
  const groups = cols / size;
  const { tileRows } = scaleLayout(spec.granularity, rows, cols);
  return {
    suffix: 'weight_scale',
    dtype,
    shape: [rows, groups],
    byteLength: rows * groups,
    bytes: (q) => {
      if (tileRows === 1) return q.scales;
      const out = new Uint8Array(rows * groups);
      for (let r = 0; r < rows; r++) {
        const from = Math.floor(r / tileRows) * groups;
        out.set(q.scales.subarray(from, from + groups), r * groups);
      }
      return out;
    },
  };
}

/** The divisor whose reciprocal is this tensor scale, or comes nearest. */
export function globalScale(tensorScale: number): number {
  const near = Math.fround(1 / tensorScale);
  const ulp = 2 ** (Math.floor(Math.log2(near)) - 23);
  const exact = [near, near - ulp, near + ulp].find((g) => Math.fround(1 / Math.fround(g)) === tensorScale);
  return exact ?? near;
}

/** Our rows of packed codes → rows of whole words with the offset 2^(b−1); unsigned codes have it already. */
function packWords(codes: Uint8Array, rows: number, cols: number, bits: 4 | 8, signed: boolean): Uint8Array {
  const from = packedRowBytes(bits, cols);
  const to = 4 * Math.ceil((cols * bits) / 32);
  const flip = signed ? (bits === 4 ? 0x88 : 0x80) : 0;
  const out = new Uint8Array(rows * to);
  for (let r = 0; r < rows; r++) {
    for (let j = 0; j < from; j++) out[r * to + j] = codes[r * from + j] ^ flip;
    if (bits === 4 && cols % 2 === 1) out[r * to + from - 1] &= 15; // padding stays zero
  }
  return out;
}

/** The inverse of packWords. */
export function unpackWords(words: Uint8Array, rows: number, cols: number, bits: 4 | 8, signed: boolean): Uint8Array {
  const from = 4 * Math.ceil((cols * bits) / 32);
  const to = packedRowBytes(bits, cols);
  const flip = signed ? (bits === 4 ? 0x88 : 0x80) : 0;
  const out = new Uint8Array(rows * to);
  for (let r = 0; r < rows; r++) {
    for (let j = 0; j < to; j++) out[r * to + j] = words[r * from + j] ^ flip;
    if (bits === 4 && cols % 2 === 1) out[(r + 1) * to - 1] &= 15;
  }
  return out;
}

/** Zero points [rows, groups], one a byte → words along rows: bits r·b … of column g hold row r. */
function packZeroPoints(zeros: Uint8Array, rows: number, groups: number, bits: 4 | 8): Uint8Array {
  const out = new Uint8Array(Math.ceil((rows * bits) / 32) * groups * 4);
  for (let r = 0; r < rows; r++)
    for (let g = 0; g < groups; g++) {
      const [at, shift] = zeroPlace(r, g, groups, bits);
      out[at] |= zeros[r * groups + g] << shift;
    }
  return out;
}

/** The inverse of packZeroPoints. */
export function unpackZeroPoints(words: Uint8Array, rows: number, groups: number, bits: 4 | 8): Uint8Array {
  const out = new Uint8Array(rows * groups);
  for (let r = 0; r < rows; r++)
    for (let g = 0; g < groups; g++) {
      const [at, shift] = zeroPlace(r, g, groups, bits);
      out[r * groups + g] = (words[at] >> shift) & (2 ** bits - 1);
    }
  return out;
}

/** Byte and shift of the zero point of row r, group g. */
function zeroPlace(r: number, g: number, groups: number, bits: 4 | 8): [number, number] {
  const perWord = 32 / bits;
  const bit = (r % perWord) * bits;
  return [(Math.floor(r / perWord) * groups + g) * 4 + (bit >> 3), bit & 7];
}

/** A scale tensor that is stored as F32, F16 or BF16, as the format of its bytes. */
export function scaleFormatOf(dtype: string): ScaleFormat | undefined {
  return ({ F32: 'f32', F16: 'f16', BF16: 'bf16' } as const)[dtype as 'F32'];
}

/** One float value of a stored tensor. */
export function firstFloat(bytes: Uint8Array, dtype: string): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (dtype === 'F32') return view.getFloat32(0, true);
  const code = view.getUint16(0, true);
  return dtype === 'F16' ? f16Value(code) : bf16Value(code);
}
