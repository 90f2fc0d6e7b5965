// Packed values in the shared memory: the common layout at the allocator's alignment.

import type { Quantized } from '../../formats/format.ts';
import type { ValueType } from '../../graph/graph.ts';
import { elementCount } from '../../tensor/shape.ts';
import { packedLayout, writeParts } from '../packed-layout.ts';
import { alignedBytes, alignment } from './allocator.ts';
import { type PackedOperand, rowsAndColumns } from './encoder.ts';

type PackedType = Extract<ValueType, { dtype: 'packed' }>;

const layoutOf = (type: PackedType) => packedLayout(type.format, ...rowsAndColumns(type.shape), alignment);

/** Bytes that a value of this type takes here, a multiple of 64. */
export function storedBytes(type: ValueType): number {
  return type.dtype === 'packed' ? layoutOf(type).byteLength : alignedBytes(4 * elementCount(type.shape));
}

/** Fills the memory of a value with zeros; packed values decode to what zero codes and scales mean. */
export function clearValue(memory: ArrayBufferLike, address: number, type: ValueType): void {
  new Uint8Array(memory, address, storedBytes(type)).fill(0);
  if (type.dtype !== 'packed') return;
  new Float32Array(memory, address + layoutOf(type).tensorScale, 1)[0] = 1;
}

/** The operand of a packed value at `address`. */
export function packedOperand(type: PackedType, address: number): PackedOperand {
  const [rows, cols] = rowsAndColumns(type.shape);
  const layout = layoutOf(type);
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
  const layout = packedLayout(q.format, q.rows, q.cols, alignment);
  writeParts(new Uint8Array(memory, address), layout, q);
}
