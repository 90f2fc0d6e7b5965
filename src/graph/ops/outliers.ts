// Rows cut into a clamped part and the few values beyond it, and products with those few.
//
//   lo, hi = a[⌊(1 − α) K⌋], a[⌊α K⌋]  of the ascending row a;   clamped = min(max(x, lo), hi);   residual = x − clamped
//
// At most S = ⌊(1 − α) K⌋ + K − 1 − ⌊α K⌋ values of a row lie beyond lo and hi, so the residual is stored as S values with
// their columns, in ascending order, and filled up with zeros at column 0.
// Source: outlier clamping and compensation, Wang et al. 2025 (arXiv:2501.17116), section 3.2; quantiles as its code takes
// them, by row.

import { elementCount } from '../../tensor/shape.ts';
import { applyOp } from '../apply.ts';
import { denseShape, expectShape, indexShape, shapeError } from '../check.ts';
import type { OpDefinition, Value } from '../graph.ts';
import { f32, i32 } from '../value-type.ts';

export interface SplitOutliersAttributes {
  /** α, above 0.5 and below 1. */
  quantile: number;
}

/** Places of lo and hi in a sorted row of K values, and S. */
export function outlierPlaces(K: number, quantile: number): { low: number; high: number; most: number } {
  const low = Math.floor((1 - quantile) * K);
  const high = Math.min(Math.floor(quantile * K), K - 1);
  return { low, high, most: low + K - 1 - high };
}

/** Outputs: clamped [..., K], values f32 [..., S], columns i32 [..., S]. */
export const splitOutliersOp: OpDefinition<SplitOutliersAttributes> = {
  name: 'splitOutliers',
  noGradient: 'which values are outliers does not change smoothly: pass a rule',
  infer([x], { quantile }) {
    const shape = denseShape('splitOutliers', 'x', x, [1]);
    const K = shape[shape.length - 1];
    const { most } = outlierPlaces(K, quantile);
    if (!(quantile > 0.5 && quantile < 1) || most < 1)
      throw shapeError(
        'splitOutliers',
        'no value of a row is beyond the quantile',
        `α ${quantile}, K ${K}`,
        'α above 0.5 and at most 1 − 1/K',
        'choose a smaller α',
      );
    const kept = [...shape.slice(0, -1), most];
    return [f32(shape), f32(kept), i32(kept)];
  },
};

/** The few values of rows that are beyond the rest. */
export interface SparseRows {
  /** f32 [..., S] */
  readonly values: Value;
  /** i32 [..., S] */
  readonly columns: Value;
}

/** x [..., K] = clamped + residual, the residual as sparse rows. */
export function splitOutliers(x: Value, quantile: number): { clamped: Value; residual: SparseRows } {
  const [clamped, values, columns] = applyOp(splitOutliersOp, [x], { quantile });
  return { clamped, residual: { values, columns } };
}

/** Inputs values, columns, table. Columns outside 0 … K − 1 are an error when the graph runs. */
export const sparseMatmulOp: OpDefinition<Record<string, never>> = {
  name: 'sparseMatmul',
  noGradient: 'pass a rule',
  infer([values, columns, table]) {
    const shape = denseShape('sparseMatmul', 'values', values, 2);
    expectShape('sparseMatmul', 'columns', indexShape('sparseMatmul', 'columns', columns, 2), shape, 'match values');
    const [, N] = denseShape('sparseMatmul', 'table', table, 2);
    return [f32([shape[0], N])];
  },
  flops: ([values, , table]) => 2 * elementCount(values.shape) * table.shape[1],
};

/** Sparse rows [T, S] of K columns times table [K, N] → [T, N], summed in the order of the values. */
export const sparseMatmul = ({ values, columns }: SparseRows, table: Value): Value =>
  applyOp(sparseMatmulOp, [values, columns, table], {})[0];

export interface SpreadSparseAttributes {
  /** K */
  columns: number;
}

/** Inputs values, columns. */
export const spreadSparseOp: OpDefinition<SpreadSparseAttributes> = {
  name: 'spreadSparse',
  noGradient: 'pass a rule',
  infer([values, columns], { columns: K }) {
    const shape = denseShape('spreadSparse', 'values', values, [1]);
    expectShape('spreadSparse', 'columns', indexShape('spreadSparse', 'columns', columns), shape, 'match values');
    return [f32([...shape.slice(0, -1), K])];
  },
};

/** Sparse rows [..., S] as dense rows [..., K]; values of one column are added. */
export const spreadSparse = ({ values, columns }: SparseRows, K: number): Value =>
  applyOp(spreadSparseOp, [values, columns], { columns: K })[0];
