// How far the predictions q are from p, row by row, without storing probabilities.
//
// p and q are logits. For each row: −log p[target], −log q[target], KL(p‖q) = Σ_v p_v (log p_v − log q_v), and 1 where
// both have their maximum at the same index (first index on ties). A target < 0 gives 0 for the first two.

import { elementCount } from '../../tensor/shape.ts';
import { applyOp } from '../apply.ts';
import { denseShape, expectShape, indexShape } from '../check.ts';
import type { OpDefinition, Value } from '../graph.ts';
import { f32 } from '../value-type.ts';

/** A target of V or more is an error when the graph runs. */
export const compareLogitsOp: OpDefinition<Record<string, never>> = {
  name: 'compareLogits',
  infer([p, q, targets]) {
    const shape = denseShape('compareLogits', 'p', p, 2);
    expectShape(
      'compareLogits',
      'q',
      denseShape('compareLogits', 'q', q),
      shape,
      'compare logits of the same rows and vocabulary',
    );
    expectShape(
      'compareLogits',
      'targets',
      indexShape('compareLogits', 'targets', targets),
      [shape[0]],
      'give one target a row',
    );
    return [f32([shape[0], 4])];
  },
  flops: ([p]) => 10 * elementCount(p.shape),
  gradient: ({ inputs }, [g]) => (g ? applyOp(compareLogitsBackwardOp, [...inputs, g], {}) : []),
};

/** p, q, targets, dy [N, 4] → dp, dq [N, V]; whether the maxima agree has no gradient. */
export const compareLogitsBackwardOp: OpDefinition<Record<string, never>> = {
  name: 'compareLogitsBackward',
  infer([p, q, targets, dy]) {
    const [y] = compareLogitsOp.infer([p, q, targets], {});
    const found = denseShape('compareLogitsBackward', 'dy', dy);
    expectShape('compareLogitsBackward', 'dy', found, y.shape, 'give four gradients a row');
    return [f32(p.shape), f32(q.shape)];
  },
  flops: ([p]) => 16 * elementCount(p.shape),
};

/** p [N, V], q [N, V], targets i32 [N] → [N, 4]. */
export function compareLogits(p: Value, q: Value, targets: Value): Value {
  return applyOp(compareLogitsOp, [p, q, targets], {})[0];
}
