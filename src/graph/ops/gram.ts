// Second moments of the inputs of linear layers, summed over the runs of a graph: what calibrated rounding needs.
//
//   G ← G + Σ_n a_n a_nᵀ        gramUpdate(G, a)        a [N, K]; elements on and above the diagonal, those below are
//                                                      left undefined
//   C ← C + Σ_n a_n b_nᵀ        gramUpdate(C, a, { b })  the whole matrix
//
// With indices i32 [N, k] there is a matrix for each expert, [E, K, K], and row n counts for the k experts it is sent
// to; a (and b) are [N, K], one row for all k, or [N, k, K], a row for each. Sums are f32. Source: GPTQ (Frantar et al.
// 2022, arXiv:2210.17323), whose Hessian is 2/N times this matrix.

import { printShape } from '../../tensor/shape.ts';
import { applyOp } from '../apply.ts';
import { denseShape, expectShape, indexShape, shapeError } from '../check.ts';
import type { OpDefinition, Value } from '../graph.ts';
import { f32 } from '../value-type.ts';

export interface GramAttributes {
  /** The second operand follows a; without it the product is symmetric. */
  cross: boolean;
  /** Indices are the last operand. An index outside 0 … E−1 is an error when the graph runs. */
  routed: boolean;
}

export const gramUpdateOp: OpDefinition<GramAttributes> = {
  name: 'gramUpdate',
  inPlace: { 0: 0 },
  updates: true,
  noGradient: 'it collects statistics: leave it out of the loss',
  infer([gram, a, ...rest], { cross, routed }) {
    const shape = denseShape('gramUpdate', 'gram', gram, routed ? 3 : 2);
    const K = shape[shape.length - 1];
    expectShape('gramUpdate', 'gram', shape, [...shape.slice(0, -2), K, K], 'give a square matrix for each expert');
    const aShape = denseShape('gramUpdate', 'a', a, [2]);
    const [N, k] = routed ? indexShape('gramUpdate', 'indices', rest[cross ? 1 : 0], 2) : [aShape[0], 1];
    const expected = routed && aShape.length === 3 ? [N, k, K] : [N, K];
    if (aShape.length > 3 || (aShape.length === 3 && !routed))
      throw shapeError('gramUpdate', 'a has too many dimensions', printShape(aShape), '[N, K]', 'reshape it first');
    expectShape('gramUpdate', 'a', aShape, expected, 'match K of the matrix and N of the indices');
    if (cross) expectShape('gramUpdate', 'b', denseShape('gramUpdate', 'b', rest[0]), aShape, 'b has the shape of a');
    return [f32(shape)];
  },
  flops([gram, a, ...rest], { cross, routed }) {
    const K = gram.shape[gram.shape.length - 1];
    const rows = routed && a.shape.length === 2 ? a.shape[0] * rest[cross ? 1 : 0].shape[1] : rowCount(a.shape);
    return (cross ? 2 : 1) * rows * K * K;
  },
};

const rowCount = (shape: readonly number[]) => shape.slice(0, -1).reduce((n, d) => n * d, 1);

/** gram (a state, f32 [K, K] or [E, K, K]) after the rows of a were added. */
export function gramUpdate(gram: Value, a: Value, { b, indices }: { b?: Value; indices?: Value } = {}): Value {
  const inputs = [gram, a, ...(b ? [b] : []), ...(indices ? [indices] : [])];
  return applyOp(gramUpdateOp, inputs, { cross: b !== undefined, routed: indices !== undefined })[0];
}
