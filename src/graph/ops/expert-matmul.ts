// Matrix product with an expert chosen for every row (mixture of experts).
//
//   y[n, j] = weight[indices[n, j]] · x[n]      for x [N, K]      (the same input for all k slots)
//   y[n, j] = weight[indices[n, j]] · x[n, j]   for x [N, k, K]   (an input for each slot)

import { elementCount, printShape } from '../../tensor/shape.ts';
import { applyOp } from '../apply.ts';
import { denseOrPackedShape, denseShape, expectShape, indexShape, shapeError } from '../check.ts';
import type { OpDefinition, Value } from '../graph.ts';
import { f32 } from '../value-type.ts';

/** Indices outside 0 … E−1 are an error when the graph runs. */
export const expertMatmulOp: OpDefinition<Record<string, never>> = {
  name: 'expertMatmul',
  infer([x, weight, indices]) {
    const xShape = denseShape('expertMatmul', 'x', x, [2]);
    const [, M, K] = denseOrPackedShape('expertMatmul', 'weight', weight, 3);
    const [N, k] = indexShape('expertMatmul', 'indices', indices, 2);
    const expected = xShape.length === 2 ? [N, K] : [N, k, K];
    if (xShape.length > 3)
      throw shapeError(
        'expertMatmul',
        'x has too many dimensions',
        printShape(xShape),
        '[N, K] or [N, k, K]',
        'collapse batch and tokens into N',
      );
    expectShape('expertMatmul', 'x', xShape, expected, 'match N and k of indices and K of weight');
    return [f32([N, k, M])];
  },
  flops([, weight, indices]) {
    const [, M, K] = weight.shape;
    const [N, k] = indices.shape;
    return 2 * N * k * M * K;
  },
  gradient: ({ inputs: [x, weight, indices] }, [g], [, weightGradient]) =>
    g ? applyOp(expertMatmulBackwardOp, [x, weight, indices, g], { weightGradient }) : [],
};

export interface ExpertGradientAttributes {
  /** The weight's gradient is the second output; without it there is one output. */
  weightGradient: boolean;
}

/**
 * x, weight (dense or packed), indices and dy [N, k, M] → dx (shape of x, summed over the slots that share a row) and,
 * where asked for, dweight [E, M, K]; an expert that no row chose gets zeros.
 */
export const expertMatmulBackwardOp: OpDefinition<ExpertGradientAttributes> = {
  name: 'expertMatmulBackward',
  infer([x, weight, indices, dy], { weightGradient }) {
    const [y] = expertMatmulOp.infer([x, weight, indices], {});
    const found = denseShape('expertMatmulBackward', 'dy', dy);
    expectShape('expertMatmulBackward', 'dy', found, y.shape, 'dy has the shape of the product');
    return weightGradient ? [f32(x.shape), f32(weight.shape)] : [f32(x.shape)];
  },
  flops([, weight, indices], { weightGradient }) {
    const [, M, K] = weight.shape;
    const [N, k] = indices.shape;
    return (weightGradient ? 4 : 2) * N * k * M * K;
  },
};

export interface ExpertWeightGradientAttributes {
  /** E */
  experts: number;
}

/** Inputs x, dy, indices: the second output of expertMatmulBackward alone. */
export const expertWeightGradientOp: OpDefinition<ExpertWeightGradientAttributes> = {
  name: 'expertWeightGradient',
  noGradient: 'second derivatives of expertMatmul are not supported',
  infer([x, dy, indices], { experts }) {
    const xShape = denseShape('expertWeightGradient', 'x', x, [2]);
    const [N, k] = indexShape('expertWeightGradient', 'indices', indices, 2);
    const found = denseShape('expertWeightGradient', 'dy', dy, 3);
    expectShape('expertWeightGradient', 'dy', found, [N, k, found[2]], 'match N and k of indices');
    const K = xShape[xShape.length - 1];
    const expected = xShape.length === 2 ? [N, K] : [N, k, K];
    expectShape('expertWeightGradient', 'x', xShape, expected, 'match N and k of indices');
    return [f32([experts, found[2], K])];
  },
  flops([x, dy, indices]) {
    return 2 * elementCount(indices.shape) * dy.shape[2] * x.shape[x.shape.length - 1];
  },
};

/** x [N, K] or [N, k, K], dy [N, k, M], indices i32 [N, k] → Σ dy ⊗ x over the slots of each expert, [E, M, K]. */
export const expertWeightGradient = (x: Value, dy: Value, indices: Value, experts: number): Value =>
  applyOp(expertWeightGradientOp, [x, dy, indices], { experts })[0];

/** x [N, K] or [N, k, K], weight [E, M, K] (dense or packed), indices i32 [N, k] → [N, k, M]. */
export function expertMatmul(x: Value, weight: Value, indices: Value): Value {
  return applyOp(expertMatmulOp, [x, weight, indices], {})[0];
}
