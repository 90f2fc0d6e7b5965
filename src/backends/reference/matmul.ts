// Matrix product; packed operands count with their dequantized values.

import { type MatmulAttributes, matmulDimensions } from '../../graph/ops/matmul.ts';
import { elementCount } from '../../tensor/shape.ts';
import { type Kernel, numbers, target } from './kernel.ts';

export const matmul: Kernel<MatmulAttributes> = ([a, b], [y], attributes) => {
  const [left, right, to] = [numbers(a), numbers(b), target(y)];
  const { batch, batchedB, M, N, K } = matmulDimensions(a.shape, b.shape, attributes);
  const [aRow, aCol] = attributes.transposeA ? [1, M] : [K, 1];
  const [bRow, bCol] = attributes.transposeB ? [1, K] : [N, 1];
  const batches = elementCount(batch);
  for (let i = 0; i < batches; i++) {
    const aFirst = i * M * K;
    const bFirst = batchedB ? i * K * N : 0;
    for (let m = 0; m < M; m++) {
      for (let n = 0; n < N; n++) {
        let sum = 0;
        for (let k = 0; k < K; k++) sum += left[aFirst + m * aRow + k * aCol] * right[bFirst + k * bRow + n * bCol];
        to[(i * M + m) * N + n] = sum;
      }
    }
  }
};
