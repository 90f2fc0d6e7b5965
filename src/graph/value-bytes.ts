// Bytes of a value in its exact storage layout (formats/format.ts, Quantized). A backend that pads or repacks passes
// its own figure to the memory plan.

import type { Format, QuantSpec } from '../formats/format.ts';
import { ggmlRowBytes } from '../formats/ggml/types.ts';
import { packedRowBytes } from '../formats/packing.ts';
import { scaleBytes } from '../formats/scale-format.ts';
import { elementBits } from '../formats/table.ts';
import { elementCount } from '../tensor/shape.ts';
import type { ValueType } from './graph.ts';

/** Dense values take 4 bytes an element; packed ones their codes, scales and zero points. */
export function valueBytes(type: ValueType): number {
  if (type.dtype !== 'packed') return 4 * elementCount(type.shape);
  const cols = type.shape[type.shape.length - 1];
  return packedBytes(type.format, elementCount(type.shape) / cols, cols);
}

/** Bytes of a matrix [rows, cols] in a format, before any value is known. */
export function packedBytes(format: Format, rows: number, cols: number): number {
  switch (format.kind) {
    case 'float':
      return rows * cols * (format.name === 'f32' ? 4 : 2);
    case 'ggml':
      return rows * ggmlRowBytes(format.type, cols);
    case 'hif4':
      return (rows * cols * 36) / 64;
    case 'quant': {
      const codes = rows * packedRowBytes(elementBits(format.element), cols);
      const scales = scaleCount(format, rows, cols);
      const scale = scaleBytes(format.scale.format);
      const zero = { none: 0, integer: 1, float: scale }[format.zeroPoint];
      return codes + scales * (scale + zero) + (format.scale.tensorScale ? 4 : 0);
    }
  }
}

function scaleCount({ granularity: g }: QuantSpec, rows: number, cols: number): number {
  switch (g.kind) {
    case 'tensor':
      return 1;
    case 'channel':
    case 'token':
      return rows;
    case 'group':
      return rows * Math.ceil(cols / g.size);
    case 'tile':
      return Math.ceil(rows / g.rows) * Math.ceil(cols / g.cols);
  }
}
