// One weight matrix under a rotation: W′ = Oᵀ · (W · diag(gain) · Q₁ · Q₂ …), in float64, rounded once to f32.
//
// Rows are independent but for O, so a matrix without O takes one row of scratch; with O a float64 copy of the whole.

import type { Orthogonal } from './orthogonal.ts';

export interface MatrixMap {
  /** Factor of each input, K values: the gain of the norm before the layer. */
  readonly gain?: Float32Array;
  /** Rotations of the input, in order; each size divides K. */
  readonly inputs?: readonly Orthogonal[];
  /** Rotation of the output; its size divides N. */
  readonly output?: Orthogonal;
}

/** W [N, K] → W′ [N, K]. */
export function mapMatrix(values: Float32Array, rows: number, cols: number, map: MatrixMap): Float32Array {
  const { gain, inputs = [], output } = map;
  const out = new Float32Array(values.length);
  const columns = output && new Float64Array(values.length); // [K, N]
  const row = new Float64Array(cols);
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < cols; c++) row[c] = values[r * cols + c] * (gain ? gain[c] : 1);
    for (const q of inputs) q.multiply(row);
    if (columns) for (let c = 0; c < cols; c++) columns[c * rows + r] = row[c];
    else out.set(row, r * cols);
  }
  if (columns) {
    output.multiply(columns);
    for (let r = 0; r < rows; r++) for (let c = 0; c < cols; c++) out[r * cols + c] = columns[c * rows + r];
  }
  return out;
}

/** A bias [N] under the rotation of the output: b · O. */
export function mapBias(values: Float32Array, output: Orthogonal): Float32Array {
  const wide = Float64Array.from(values);
  output.multiply(wide);
  return Float32Array.from(wide);
}
