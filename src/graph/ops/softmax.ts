// Softmax over the last axis: e^(x_i − max) / Σ_j e^(x_j − max). Subtracting the maximum keeps e^x finite.

import { elementCount } from '../../tensor/shape.ts';
import { applyOp } from '../apply.ts';
import { denseShape, expectShape } from '../check.ts';
import type { OpDefinition, Value } from '../graph.ts';
import { perInput } from '../rule.ts';
import { f32 } from '../value-type.ts';

export const softmaxOp: OpDefinition<Record<string, never>> = {
  name: 'softmax',
  infer: ([x]) => [f32(denseShape('softmax', 'x', x, [1]))],
  flops: ([x]) => 4 * elementCount(x.shape),
  gradient: perInput(({ outputs: [y] }, g) => [() => applyOp(softmaxBackwardOp, [y, g], {})[0]]),
};

/** dx_i = y_i · (dy_i − Σ_j y_j dy_j), from the probabilities y. */
export const softmaxBackwardOp: OpDefinition<Record<string, never>> = {
  name: 'softmaxBackward',
  infer([y, dy]) {
    const shape = denseShape('softmaxBackward', 'y', y, [1]);
    expectShape('softmaxBackward', 'dy', denseShape('softmaxBackward', 'dy', dy), shape, 'dy has the shape of y');
    return [f32(shape)];
  },
  flops: ([y]) => 4 * elementCount(y.shape),
};

/** x [..., C] → probabilities [..., C]; −infinity entries get 0. */
export const softmax = (x: Value): Value => applyOp(softmaxOp, [x], {})[0];
