// Where the parts of a packed value lie in memory.
//
// One block of bytes: codes, scales, zero points, tensor scale (one f32; present in every packed value, 1 where the
// format has none), each part at a multiple of 64. Sizes follow from format and shape alone, so that the memory plan
// knows them before any value exists.

import type { Format, Quantized } from '../../formats/format.ts';
import { scaleLayout } from '../../formats/layout.ts';
import { packedRowBytes } from '../../formats/packing.ts';
import { formatBytes } from '../../formats/registry.ts';
import { scaleBytes } from '../../formats/scale-format.ts';
import { elementBits } from '../../formats/table.ts';
import type { ValueType } from '../../graph/graph.ts';
import { elementCount } from '../../tensor/shape.ts';
import { alignedBytes } from './allocator.ts';
import { type PackedOperand, rowsAndColumns } from './encoder.ts';

export interface PackedLayout {
  readonly codesBytes: number;
  readonly scalesBytes: number;
  readonly zeroPointsBytes: number;
  /** Offsets from the start of the block. */
  readonly scales: number;
  readonly zeroPoints: number;
  readonly tensorScale: number;
  readonly byteLength: number;
}

/** Bytes of codes, scales and zero points of a [rows, cols] matrix. */
function partBytes(format: Format, rows: number, cols: number): [codes: number, scales: number, zeroPoints: number] {
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

export function packedLayout(format: Format, rows: number, cols: number): PackedLayout {
  const [codesBytes, scalesBytes, zeroPointsBytes] = partBytes(format, rows, cols);
  const scales = alignedBytes(codesBytes);
  const zeroPoints = scales + alignedBytes(scalesBytes);
  const tensorScale = zeroPoints + alignedBytes(zeroPointsBytes);
  const byteLength = alignedBytes(tensorScale + 4);
  return { codesBytes, scalesBytes, zeroPointsBytes, scales, zeroPoints, tensorScale, byteLength };
}

/** Bytes that a value of this type takes here, a multiple of 64. */
export function storedBytes(type: ValueType): number {
  if (type.dtype !== 'packed') return alignedBytes(4 * elementCount(type.shape));
  return packedLayout(type.format, ...rowsAndColumns(type.shape)).byteLength;
}

/** The operand of a packed value at `address`. */
export function packedOperand(type: Extract<ValueType, { dtype: 'packed' }>, address: number): PackedOperand {
  const [rows, cols] = rowsAndColumns(type.shape);
  const layout = packedLayout(type.format, rows, cols);
  return {
    dtype: 'packed',
    shape: type.shape,
    format: type.format,
    rows,
    cols,
    codes: address,
    scales: layout.scalesBytes > 0 ? address + layout.scales : 0,
    zeroPoints: layout.zeroPointsBytes > 0 ? address + layout.zeroPoints : 0,
    tensorScale: address + layout.tensorScale,
  };
}

/** Copies a quantized matrix into the memory at `address`. */
export function writePacked(memory: ArrayBufferLike, address: number, q: Quantized): void {
  const layout = packedLayout(q.format, q.rows, q.cols);
  const expected = [layout.codesBytes, layout.scalesBytes, layout.zeroPointsBytes];
  const found = [q.codes, q.scales, q.zeroPoints ?? new Uint8Array(0)];
  found.forEach((part, i) => {
    if (part.byteLength !== expected[i])
      throw new Error(
        `wasm: ${part.byteLength} bytes of ${['codes', 'scales', 'zero points'][i]}, expected ${expected[i]}`,
      );
  });
  const bytes = new Uint8Array(memory);
  bytes.set(q.codes, address);
  bytes.set(q.scales, address + layout.scales);
  if (q.zeroPoints) bytes.set(q.zeroPoints, address + layout.zeroPoints);
  new Float32Array(memory, address + layout.tensorScale, 1)[0] = q.tensorScale;
}
