// Where the parts of a packed value lie in memory.
//
// One block of bytes: codes, scales, zero points, tensor scale (one f32; present in every packed value, 1 where the
// format has none), each part at a multiple of 64. Sizes follow from format and shape alone, so that the memory plan
// knows them before any value exists.

import { partBytes } from '../../formats/empty.ts';
import type { Format, Quantized } from '../../formats/format.ts';
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

/** Fills the memory of a value with zeros; packed values decode to what zero codes and scales mean. */
export function clearValue(memory: ArrayBufferLike, address: number, type: ValueType): void {
  new Uint8Array(memory, address, storedBytes(type)).fill(0);
  if (type.dtype !== 'packed') return;
  const { tensorScale } = packedLayout(type.format, ...rowsAndColumns(type.shape));
  new Float32Array(memory, address + tensorScale, 1)[0] = 1;
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
