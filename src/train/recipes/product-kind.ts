// What multiplies the operands of a linear layer: one matrix for all rows, or one of E experts for each row.
//
//   one       y = a · bᵀ          gx = e · (wᵀ)ᵀ      gw = eᵀ · (xᵀ)ᵀ
//   experts   y[r] = b[i(r)] · a[r], gx[r] = (bᵀ)[i(r)] · e[r], gw[i] = Σ_{r: i(r) = i} e[r] ⊗ x[r]
//
// Operands of experts' products are the rounded values, decoded to f32 where the op takes no codes; what is kept for the
// backward pass are the codes.

import { withGradient } from '../../graph/gradient-rules.ts';
import type { GradientRule, Value } from '../../graph/graph.ts';
import { expertMatmul, expertWeightGradient } from '../../graph/ops/expert-matmul.ts';
import { reshape, transpose } from '../../graph/ops/layout.ts';
import { matmul } from '../../graph/ops/matmul.ts';
import { type SparseRows, sparseMatmul, spreadSparse } from '../../graph/ops/outliers.ts';
import { dequantize } from '../../graph/ops/quantize.ts';

export interface ProductKind {
  /** a [R, K], b [N, K] or [E, N, K] → the node of the product, whose first inputs come from a and b. */
  forward(a: Value, b: Value): Value;
  /** Sparse rows of K columns times w [N, K] or [E, N, K], unrounded → [R, N]; its gradient is that of w. */
  residual(rows: SparseRows, w: Value): Value;
  /** e [R, N], wT [K, N] or [E, K, N] → [R, K]. */
  gradInput(e: Value, wT: Value): Value;
  /** eT [N, R], xT [K, R] → [N, K] or [E, N, K]. */
  gradWeight(eT: Value, xT: Value): Value;
}

const product = (a: Value, b: Value) => matmul(a, b, { transposeB: true });

export const oneMatrix: ProductKind = {
  forward: product,
  residual: (rows, w) => withGradient(sparseMatmul(rows, swap(w)), tableGradient),
  gradInput: product,
  gradWeight: product,
};

const tableGradient: GradientRule = ({ inputs: [values, columns, table] }, [g]) =>
  g
    ? [undefined, undefined, matmul(spreadSparse({ values, columns }, table.type.shape[0]), g, { transposeA: true })]
    : [];

/** Products by experts [R, 1] of rows. */
export function byExperts(experts: Value, count: number): ProductKind {
  const each = (a: Value, b: Value) => expertMatmul(decoded(a), b, experts);
  return {
    forward: each,
    residual: (rows, w) => {
      const dense = withGradient(spreadSparse(rows, w.type.shape[2]), () => []);
      const rule: GradientRule = ({ inputs: [x] }, [g]) =>
        g ? [undefined, expertWeightGradient(x, g, experts, count)] : [];
      return asRows(withGradient(expertMatmul(dense, w, experts), rule));
    },
    gradInput: (e, wT) => asRows(each(e, wT)),
    gradWeight: (eT, xT) => expertWeightGradient(swap(decoded(xT)), asSlots(swap(decoded(eT))), experts, count),
  };
}

/** [R, 1, N] → [R, N]; a matrix stays as it is. */
export const asRows = (y: Value): Value =>
  y.type.shape.length === 3 ? reshape(y, [y.type.shape[0], y.type.shape[2]]) : y;

/** [R, N] → [R, 1, N] */
const asSlots = (v: Value) => reshape(v, [v.type.shape[0], 1, v.type.shape[1]]);

/** The last two dimensions swapped. */
export function swap(v: Value): Value {
  const axes = [...v.type.shape.keys()];
  return transpose(v, [...axes.slice(0, -2), axes.length - 1, axes.length - 2]);
}

const decoded = (v: Value) => (v.type.dtype === 'packed' ? dequantize(v) : v);
