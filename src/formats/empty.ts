// Memory for a quantized matrix before it has values: the sizes of its parts, and the parts filled with zeros.

import type { Format, Quantized } from './format.ts';
import { scaleLayout } from './layout.ts';
import { packedRowBytes } from './packing.ts';
import { formatBytes } from './registry.ts';
import { scaleBytes } from './scale-format.ts';
import { elementBits } from './table.ts';

/** Bytes of codes, scales and zero points of a [rows, cols] matrix. Throws as quantize does when K does not fit. */
export function partBytes(
  format: Format,
  rows: number,
  cols: number,
): [codes: number, scales: number, zeroPoints: number] {
  switch (format.kind) {
    case 'float':
    case 'ggml':
      return [formatBytes(format, rows, cols), 0, 0];
    case 'hif4': {
      const blocks = (rows * cols) / 64;
      return [32 * blocks, 4 * blocks, 0];
    }
    case 'quant': {
      const { scaleRows, scaleCols } = scaleLayout(format.granularity, rows, cols);
      const scale = scaleBytes(format.scale.format);
      const zero = { none: 0, integer: 1, float: scale }[format.zeroPoint];
      const codes = rows * packedRowBytes(elementBits(format.element), cols);
      return [codes, scaleRows * scaleCols * scale, scaleRows * scaleCols * zero];
    }
  }
}

/** A matrix whose codes, scales and zero points are zero bytes, with a tensor scale of 1. */
export function emptyQuantized(format: Format, rows: number, cols: number): Quantized {
  const [codes, scales, zeroPoints] = partBytes(format, rows, cols);
  return {
    format,
    rows,
    cols,
    codes: new Uint8Array(codes),
    scales: new Uint8Array(scales),
    zeroPoints: zeroPoints > 0 ? new Uint8Array(zeroPoints) : undefined,
    tensorScale: 1,
  };
}

/**
 * Whether every row of a matrix is coded on its own, so that rows can be written one at a time: no scale covers several
 * rows.
 */
export function hasIndependentRows(format: Format): boolean {
  if (format.kind !== 'quant') return true;
  const kind = format.granularity.kind;
  return !format.scale.tensorScale && (kind === 'group' || kind === 'channel' || kind === 'token');
}
