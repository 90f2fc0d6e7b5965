// Transposes of packed matrices: codes and scales at their mirrored places.

import { packCodes, unpackRows } from '../../formats/packing.ts';
import { movableBits } from '../../graph/ops/transpose-packed.ts';
import { elementCount } from '../../tensor/shape.ts';
import { mirroredScales } from '../mirrored-scales.ts';
import { type Kernel, packedTarget } from './kernel.ts';

/** [count, rows, cols] elements of `size` bytes → [count, cols, rows]. */
function mirrored(bytes: Uint8Array, count: number, rows: number, cols: number, size: number): Uint8Array {
  const out = new Uint8Array(bytes.length);
  for (let i = 0; i < count; i++)
    for (let r = 0; r < rows; r++)
      for (let c = 0; c < cols; c++) {
        const from = ((i * rows + r) * cols + c) * size;
        out.set(bytes.subarray(from, from + size), ((i * cols + c) * rows + r) * size);
      }
  return out;
}

export const transposePacked: Kernel = ([x], [y]) => {
  if (x.kind !== 'packed') throw new Error('reference: transposePacked of a dense value');
  const { data, shape } = x;
  const [M, K] = shape.slice(-2);
  const count = elementCount(shape.slice(0, -2));
  const bits = movableBits(data.format);
  const codes =
    bits === 16
      ? mirrored(data.codes, count, M, K, 2)
      : packCodes(
          mirrored(unpackRows(data.codes, K, bits ?? 8, 0, count * M), count, M, K, 1),
          count * K,
          M,
          bits ?? 8,
        );
  const grid = mirroredScales(data.format, shape);
  const scales = mirrored(data.scales, grid.count, grid.rows, grid.cols, grid.size);
  packedTarget(y).data = { ...data, rows: count * K, cols: M, codes, scales };
};
