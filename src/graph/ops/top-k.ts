// The k largest entries of each row, for routing tokens to experts.

import { printShape } from '../../tensor/shape.ts';
import { applyOp } from '../apply.ts';
import { denseShape, expectShape, indexShape, shapeError } from '../check.ts';
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
  gradient: ({ inputs: [x], outputs: [, indices] }, [g]) =>
    g ? applyOp(topKBackwardOp, [indices, g], { entries: x.type.shape[1] }) : [],
};

export interface TopKBackwardAttributes {
  /** E, the entries of a row of x. */
  entries: number;
}

/** indices i32 [N, k], dvalues [N, k] → dx [N, E]: each gradient at the entry it came from, zero elsewhere. */
export const topKBackwardOp: OpDefinition<TopKBackwardAttributes> = {
  name: 'topKBackward',
  infer([indices, dvalues], { entries }) {
    const shape = indexShape('topKBackward', 'indices', indices, 2);
    const found = denseShape('topKBackward', 'dvalues', dvalues);
    expectShape('topKBackward', 'dvalues', found, shape, 'give one gradient an index');
    return [f32([shape[0], entries])];
  },
};

/** x [N, E] → values f32 [N, k] and indices i32 [N, k]. */
export function topK(x: Value, k: number): { values: Value; indices: Value } {
  const [values, indices] = applyOp(topKOp, [x], { k });
  return { values, indices };
}
