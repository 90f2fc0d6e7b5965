// The k largest entries of each row, for routing tokens to experts.

import { printShape } from '../../tensor/shape.ts';
import { applyOp } from '../apply.ts';
import { denseShape, shapeError } from '../check.ts';
import type { OpDefinition, Value } from '../graph.ts';
import { f32, i32 } from '../value-type.ts';

export interface TopKAttributes {
  k: number;
}

/** Descending; of equal values the one with the lower index comes first. */
export const topKOp: OpDefinition<TopKAttributes> = {
  name: 'topK',
  infer([x], { k }) {
    const [N, E] = denseShape('topK', 'x', x, 2);
    if (!Number.isInteger(k) || k < 1 || k > E)
      throw shapeError('topK', `k does not fit ${printShape(x.shape)}`, `${k}`, `1 … ${E}`, 'choose fewer entries');
    return [f32([N, k]), i32([N, k])];
  },
};

/** x [N, E] → values f32 [N, k] and indices i32 [N, k]. */
export function topK(x: Value, k: number): { values: Value; indices: Value } {
  const [values, indices] = applyOp(topKOp, [x], { k });
  return { values, indices };
}
