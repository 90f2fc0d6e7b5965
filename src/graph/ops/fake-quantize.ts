// Rounding to a uniform grid with a step that is an operand, for training with quantization in the graph.
//
//   s = max(step, ε),  z = x / s,  y = s · rne(clip(z, low, high))            rne: to nearest, ties to even
//
// Gradients (learned step size, Esser et al. 2020, arXiv:1902.08153): x gets dy where low ≤ z ≤ high and 0 outside; an
// element's share of ds is dy · (rne(z) − z) inside, dy · low below and dy · high above. Below ε the gradient of the
// step is that at ε, so that a step which an update made negative can grow again. The bounds are inclusive. The rule
// in the catalogue has no gradient scale; gradient-rules.ts has lsq() with one.

import { elementCount } from '../../tensor/shape.ts';
import { applyOp } from '../apply.ts';
import { broadcastShapes } from '../broadcast.ts';
import { denseShape, expectShape, shapeError } from '../check.ts';
import type { OpDefinition, Value, ValueType } from '../graph.ts';
import { f32 } from '../value-type.ts';
import { sumTo } from './reduce.ts';

export interface FakeQuantizeAttributes {
  /** The lowest and the highest level, in steps: −8 and 7 for signed four bits. */
  low: number;
  high: number;
  /** The smallest step. */
  epsilon: number;
}

/** Inputs x [..., K] and step, which broadcasts to x: [1] for a tensor, [N, 1] for the rows of a weight. */
export const fakeQuantizeOp: OpDefinition<FakeQuantizeAttributes> = {
  name: 'fakeQuantize',
  infer: ([x, step], attributes) => [f32(gridShape('fakeQuantize', x, step, attributes))],
  flops: ([x]) => 4 * elementCount(x.shape),
  gradient: ({ inputs: [x, step], attributes }, [g]) => {
    if (!g) return [];
    const [dx, shares] = fakeQuantizeBackward(x, step, g, attributes);
    return [dx, sumTo(shares, step.type.shape)];
  },
};

/** x, step, dy → dx and each element's share of the step's gradient, both of x's shape. */
export const fakeQuantizeBackwardOp: OpDefinition<FakeQuantizeAttributes> = {
  name: 'fakeQuantizeBackward',
  infer([x, step, dy], attributes) {
    const shape = gridShape('fakeQuantizeBackward', x, step, attributes);
    const found = denseShape('fakeQuantizeBackward', 'dy', dy);
    expectShape('fakeQuantizeBackward', 'dy', found, shape, 'dy has the shape of x');
    return [f32(shape), f32(shape)];
  },
  flops: ([x]) => 6 * elementCount(x.shape),
};

/**
 * x rounded to low·step … high·step.
 *
 * @example fakeQuantize(weight, g.param('step', f32([1])), { low: -8, high: 7 })
 */
export function fakeQuantize(
  x: Value,
  step: Value,
  { low, high, epsilon = 1e-8 }: Omit<FakeQuantizeAttributes, 'epsilon'> & { epsilon?: number },
): Value {
  return applyOp(fakeQuantizeOp, [x, step], { low, high, epsilon })[0];
}

/** dx and each element's share of the step's gradient. */
export function fakeQuantizeBackward(
  x: Value,
  step: Value,
  gradient: Value,
  attributes: FakeQuantizeAttributes,
): readonly Value[] {
  return applyOp(fakeQuantizeBackwardOp, [x, step, gradient], attributes);
}

function gridShape(op: string, x: ValueType, step: ValueType, { low, high, epsilon }: FakeQuantizeAttributes) {
  const shape = denseShape(op, 'x', x, [1]);
  const stretched = broadcastShapes(op, denseShape(op, 'step', step), shape);
  expectShape(op, 'step', stretched, shape, 'give a step that broadcasts to x');
  if (!(low <= 0 && high >= 0 && low < high && epsilon > 0))
    throw shapeError(
      op,
      'bad grid',
      `low ${low}, high ${high}, epsilon ${epsilon}`,
      'low ≤ 0 ≤ high, low < high, epsilon above 0',
      'use −2^(b−1) and 2^(b−1)−1 for b signed bits',
    );
  return shape;
}
