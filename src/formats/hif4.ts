// HiF4 (arXiv 2602.11287): 64 elements with a three-level scale, 36 bytes, 4.5 bits a value.
//
// Level 1: one unsigned E6M2 scale s1. Level 2: a one-bit exponent for each 8 elements. Level 3: a one-bit exponent for
// each 4. Elements are sign-magnitude S1P2: magnitude code / 4, at most 1.75.
//   s1 = E6M2(bf16(amax · bf16(1/7))), r = bf16(1 / s1)
//   L2 = max8 · r ≥ 4;  L3 = max4 · r · 2^-L2 ≥ 2
//   code = min(floor(|x| · r · 2^(−L2−L3) · 4 + 0.5), 7);  value = ± s1 · 2^(L2 + L3) · code / 4
// The input is rounded to bfloat16 first, as the reference program does. No container stores HiF4 and no byte order is
// published; ours: codes low nibble first (sign in bit 3); 4 scale bytes a block: E6M2, L2 bits (element 0 in bit 0),
// 16 L3 bits little-endian. Elements that round to zero keep their sign; a zero block has the smallest scale.

import { bf16Bits, bf16Value } from './bits.ts';
import type { Hif4Format, Quantized } from './format.ts';
import { scaleLayout } from './layout.ts';
import { e6m2Value, encodeE6m2 } from './scale-format.ts';

const blockSize = 64;
const bf16 = (x: number) => bf16Value(bf16Bits(x));
const seventh = bf16(1 / 7);

/** Quantizes finite values [rows, cols]; cols must be a multiple of 64. */
export function quantizeHif4(values: Float32Array, rows: number, cols: number, format: Hif4Format): Quantized {
  const { scaleCols } = scaleLayout({ kind: 'group', size: blockSize }, rows, cols);
  const blocks = rows * scaleCols;
  const codes = new Uint8Array(blocks * 32);
  const scales = new Uint8Array(blocks * 4);
  const magnitudes = new Float64Array(blockSize);
  const max8 = new Float64Array(8);
  const max4 = new Float64Array(16);
  for (let b = 0; b < blocks; b++) {
    max8.fill(0);
    max4.fill(0);
    for (let i = 0; i < blockSize; i++) {
      const a = Math.abs(bf16(values[b * blockSize + i]!));
      magnitudes[i] = a;
      max8[i >> 3] = Math.max(max8[i >> 3]!, a);
      max4[i >> 2] = Math.max(max4[i >> 2]!, a);
    }
    const amax = Math.max(...max8);
    const scaleCode = encodeE6m2(bf16(amax * seventh));
    const r = bf16(1 / e6m2Value(scaleCode));
    let level2 = 0;
    let level3 = 0;
    for (let k = 0; k < 8; k++) if (max8[k]! * r >= 4) level2 |= 1 << k;
    for (let j = 0; j < 16; j++) if (max4[j]! * r * 2 ** -((level2 >> (j >> 1)) & 1) >= 2) level3 |= 1 << j;
    scales[b * 4] = scaleCode;
    scales[b * 4 + 1] = level2;
    scales[b * 4 + 2] = level3;
    scales[b * 4 + 3] = level3 >> 8;
    for (let i = 0; i < blockSize; i++) {
      const shift = ((level2 >> (i >> 3)) & 1) + ((level3 >> (i >> 2)) & 1);
      const m = Math.min(Math.floor(magnitudes[i]! * r * 2 ** -shift * 4 + 0.5), 7);
      const x = values[b * blockSize + i]!;
      const code = x < 0 || Object.is(x, -0) ? m | 8 : m;
      codes[b * 32 + (i >> 1)]! |= code << (4 * (i & 1));
    }
  }
  return { format, rows, cols, codes, scales, zeroPoints: undefined, tensorScale: 1 };
}

/** Values of `count` rows from `first` on, written to `out`. Every value is exact in float32. */
export function dequantizeHif4Rows(q: Quantized, first: number, count: number, out: Float32Array): void {
  const start = first * q.cols;
  for (let i = 0; i < count * q.cols; i++) {
    const at = start + i;
    const block = Math.floor(at / blockSize);
    const inBlock = at % blockSize;
    const level3 = q.scales[block * 4 + 2]! | (q.scales[block * 4 + 3]! << 8);
    const shift = ((q.scales[block * 4 + 1]! >> (inBlock >> 3)) & 1) + ((level3 >> (inBlock >> 2)) & 1);
    const code = (q.codes[at >> 1]! >> (4 * (at & 1))) & 15;
    const magnitude = ((code & 7) / 4) * e6m2Value(q.scales[block * 4]!) * 2 ** shift;
    out[i] = code & 8 ? -magnitude : magnitude;
  }
}
