// Matrix product; packed operands count with their dequantized values.

import { type MatmulAttributes, matmulDimensions } from '../../graph/ops/matmul.ts';
import { elementCount } from '../../tensor/shape.ts';
import { dot, doubles, type Kernel, target } from './kernel.ts';

export const matmul: Kernel<MatmulAttributes> = ([a, b], [y], attributes) => {
  const { batch, batchedB, M, N, K } = matmulDimensions(a.shape, b.shape, attributes);
  const batches = elementCount(batch);
  // Both operands with K last, so that each result is a product of two runs of K numbers.
  const left = attributes.transposeA ? transposeMatrices(doubles(a), batches, K, M) : doubles(a);
  const right = attributes.transposeB ? doubles(b) : transposeMatrices(doubles(b), batchedB ? batches : 1, K, N);
  const to = target(y);
  for (let i = 0; i < batches; i++) {
    const bFirst = batchedB ? i * N * K : 0;
    for (let m = 0; m < M; m++) {
      for (let n = 0; n < N; n++) to[(i * M + m) * N + n] = dot(left, (i * M + m) * K, right, bFirst + n * K, K);
    }
  }
};

/** [count, rows, cols] → [count, cols, rows]. */
function transposeMatrices(x: Float64Array, count: number, rows: number, cols: number): Float64Array {
  const y = new Float64Array(x.length);
  for (let i = 0; i < count; i++) {
    for (let r = 0; r < rows; r++) {
      for (let c = 0; c < cols; c++) y[(i * cols + c) * rows + r] = x[(i * rows + r) * cols + c];
    }
  }
  return y;
}
