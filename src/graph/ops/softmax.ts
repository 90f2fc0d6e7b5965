// Softmax over the last axis: e^(x_i − max) / Σ_j e^(x_j − max). Subtracting the maximum keeps e^x finite.

import { elementCount } from '../../tensor/shape.ts';
import { applyOp } from '../apply.ts';
import { denseShape } from '../check.ts';
import type { OpDefinition, Value } from '../graph.ts';
import { f32 } from '../value-type.ts';

export const softmaxOp: OpDefinition<Record<string, never>> = {
  name: 'softmax',
  infer: ([x]) => [f32(denseShape('softmax', 'x', x, [1]))],
  flops: ([x]) => 4 * elementCount(x.shape),
};

/** x [..., C] → probabilities [..., C]; −infinity entries get 0. */
export const softmax = (x: Value): Value => applyOp(softmaxOp, [x], {})[0];
