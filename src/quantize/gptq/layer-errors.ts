// Errors of a quantized weight on the calibration data of its layer, from second moments alone.

import type { Solver } from '../../backends/wasm/solver.ts';
import type { Quantized } from '../../formats/format.ts';
import { dequantizeRows } from '../../formats/quantize.ts';
import type { PreparedHessian } from './hessian.ts';

export interface LayerErrors {
  /**
   * error: ‖(W − Ŵ) X̃‖². objective: what the solver minimizes, up to a constant: the error, with asymmetry
   * ‖W X − Ŵ X̃‖² − ‖W (X − X̃)‖².
   */
  of(q: Quantized): { error: number; objective: number };
  /** ‖W X̃‖² */
  energy(): number;
  free(): void;
}

const rowsAtOnce = 384;

/** Opens the forms of a layer; its memory is in use until `free`. */
export function layerErrors(
  { statistics, options }: PreparedHessian,
  weight: Float32Array,
  rows: number,
  solver: Solver,
): LayerErrors {
  const { features: cols, gram } = statistics;
  const cross = options.asymmetry > 0 ? statistics.cross : undefined;
  const forms = solver.errors(gram, cross, cols);
  return {
    of(q) {
      const d = new Float32Array(Math.min(rows, rowsAtOnce) * cols);
      let error = 0;
      let shift = 0;
      for (let first = 0; first < rows; first += rowsAtOnce) {
        const count = Math.min(rowsAtOnce, rows - first);
        const w = weight.subarray(first * cols, (first + count) * cols);
        dequantizeRows(q, first, count, d);
        for (let i = 0; i < w.length; i++) d[i] = w[i] - d[i];
        error += forms.quadratic(d, count);
        if (cross) shift += forms.cross(w, d, count);
      }
      return { error, objective: error + 2 * shift };
    },
    energy: () => forms.quadratic(weight, rows),
    free: () => forms.free(),
  };
}
