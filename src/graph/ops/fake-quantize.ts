// Rounding to a uniform grid with a step that is an operand, for training with quantization in the graph.
//
//   s = max(step, ε),  z = x / s,  y = s · (rne(clip(z, low, high) − shift) + shift)   rne: to nearest, ties to even
//
// With shift 0 the levels are whole numbers of steps; with shift 1/2 they lie between them, …, −3/2, −1/2, 1/2, 3/2, ….
// Gradients (learned step size, Esser et al. 2020, arXiv:1902.08153): x gets dy where low ≤ z ≤ high and 0 outside; an
// element's share of ds is dy · (y/s − z) inside and dy · edge · y/s outside. edge 1 is the derivative of what is
// computed. Below ε the gradient of the step is that at ε, so that a step which an update made negative can grow again.
// The bounds are inclusive. The rule in the catalogue has no gradient scale; learned-grids.ts has rules with one.

import { elementCount } from '../../tensor/shape.ts';
import { applyOp } from '../apply.ts';
import { broadcastShapes } from '../broadcast.ts';
import { denseShape, expectShape, shapeError } from '../check.ts';
import type { OpDefinition, Value, ValueType } from '../graph.ts';
import { f32 } from '../value-type.ts';
import { sumTo } from './reduce.ts';

export interface FakeQuantizeAttributes {
  /** Where z is clipped, in steps; with whole numbers the lowest and the highest level: −8 and 7 for four signed bits. */
  low: number;
  high: number;
  /** Of the levels: 0 or 1/2. */
  shift: number;
  /** Factor of the outermost level in the step's gradient outside of the grid. */
  edge: number;
  /** The smallest step. */
  epsilon: number;
}

/** low and high; the rest has defaults. */
export type Grid = Pick<FakeQuantizeAttributes, 'low' | 'high'> & Partial<FakeQuantizeAttributes>;

/** Shift 0, edge 1, smallest step 1e-8 where the grid does not say. */
export const gridAttributes = ({ low, high, shift = 0, edge = 1, epsilon = 1e-8 }: Grid): FakeQuantizeAttributes => ({
  low,
  high,
  shift,
  edge,
  epsilon,
});

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
 * x rounded to the levels of a grid.
 *
 * @example fakeQuantize(weight, g.param('step', f32([1])), { low: -8, high: 7 })
 */
export const fakeQuantize = (x: Value, step: Value, grid: Grid): Value =>
  applyOp(fakeQuantizeOp, [x, step], gridAttributes(grid))[0];

/** dx and each element's share of the step's gradient. */
export const fakeQuantizeBackward = (x: Value, step: Value, gradient: Value, grid: Grid): readonly Value[] =>
  applyOp(fakeQuantizeBackwardOp, [x, step, gradient], gridAttributes(grid));

function gridShape(op: string, x: ValueType, step: ValueType, attributes: FakeQuantizeAttributes) {
  const shape = denseShape(op, 'x', x, [1]);
  const stretched = broadcastShapes(op, denseShape(op, 'step', step), shape);
  expectShape(op, 'step', stretched, shape, 'give a step that broadcasts to x');
  const { low, high, shift, edge, epsilon } = attributes;
  if (!(low <= 0 && high >= 0 && low < high && epsilon > 0))
    throw shapeError(
      op,
      'bad grid',
      `low ${low}, high ${high}, epsilon ${epsilon}`,
      'low ≤ 0 ≤ high, low < high, epsilon above 0',
      'use −2^(b−1) and 2^(b−1)−1 for b signed bits',
    );
  if (!((shift === 0 || shift === 0.5) && Number.isFinite(edge)))
    throw shapeError(
      op,
      'bad levels',
      `shift ${shift}, edge ${edge}`,
      'shift 0 or 1/2, a finite edge',
      'leave them out',
    );
  return shape;
}
