// Which values a quantization did not clip, one bit each: what masked gradients need besides the codes.

import type { Quantized } from './format.ts';
import { scaleLayout } from './layout.ts';
import { decodeScale, readScale } from './scale-format.ts';

/**
 * Words [rows, cols / 32], row-major: bit j of word i of a row is 1 where |values[32 i + j]| < fl(bound · step), with
 * step = fl(scale · tensorScale) as elements were encoded. Symmetric formats only; cols a multiple of 32.
 */
export function clipBits(values: ArrayLike<number>, q: Quantized, bound: number): Int32Array {
  const { format, rows, cols, scales, tensorScale } = q;
  if (format.kind !== 'quant') throw new Error(`clipBits: ${format.kind} has no scales of this kind`);
  const { tileRows, tileCols, scaleCols } = scaleLayout(format.granularity, rows, cols);
  const words = new Int32Array((rows * cols) / 32);
  for (let r = 0; r < rows; r++) {
    const scaleRow = Math.floor(r / tileRows) * scaleCols;
    for (let c = 0; c < cols; c++) {
      const scale = decodeScale(
        format.scale.format,
        readScale(format.scale.format, scales, scaleRow + Math.floor(c / tileCols)),
      );
      const limit = Math.fround(Math.fround(scale * tensorScale) * bound);
      const at = r * cols + c;
      if (Math.abs(values[at]) < limit) words[at >> 5] |= 1 << (at & 31);
    }
  }
  return words;
}
