// One weight matrix under a rotation: W′ = Oᵀ · (W · diag(gain) · Q₁ · Q₂ …), in float64, rounded once to f32.
//
// Rows are independent but for O, so a matrix without O takes a few rows of scratch; with O a float64 copy of the whole.

import type { Orthogonal } from './orthogonal.ts';

export interface MatrixMap {
  /** Factor of each input, K values: the gain of the norm before the layer. */
  readonly gain?: Float32Array;
  /** Rotations of the input, in order; each size divides K. */
  readonly inputs?: readonly Orthogonal[];
  /** Rotation of the output; its size divides N. */
  readonly output?: Orthogonal;
}

/** Rows that are done at a time, so that transposing touches whole cache lines. */
const rowBlock = 16;

/** W [N, K] → W′ [N, K]. */
export function mapMatrix(values: Float32Array, rows: number, cols: number, map: MatrixMap): Float32Array {
  const { gain, inputs = [], output } = map;
  const out = new Float32Array(values.length);
  const columns = output && new Float64Array(values.length); // [K, N]
  const scratch = new Float64Array(rowBlock * cols);
  for (let first = 0; first < rows; first += rowBlock) {
    const count = Math.min(rowBlock, rows - first);
    const block = scratch.subarray(0, count * cols);
    block.set(values.subarray(first * cols, (first + count) * cols));
    if (gain) for (let r = 0; r < count; r++) for (let c = 0; c < cols; c++) block[r * cols + c] *= gain[c];
    for (const q of inputs) q.multiply(block);
    if (!columns) out.set(block, first * cols);
    else
      for (let c = 0; c < cols; c++)
        for (let r = 0; r < count; r++) columns[c * rows + first + r] = block[r * cols + c];
  }
  if (columns) {
    output.multiply(columns);
    for (let first = 0; first < rows; first += rowBlock) {
      const end = Math.min(first + rowBlock, rows);
      for (let c = 0; c < cols; c++) for (let r = first; r < end; r++) out[r * cols + c] = columns[c * rows + r];
    }
  }
  return out;
}

/** A bias [N] under the rotation of the output: b · O. */
export function mapBias(values: Float32Array, output: Orthogonal): Float32Array {
  const wide = Float64Array.from(values);
  output.multiply(wide);
  return Float32Array.from(wide);
}
