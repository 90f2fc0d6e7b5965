// Σ x² of each of many values in one op: the squares that the norm of all gradients is made of.

import { elementCount } from '../../tensor/shape.ts';
import { applyOp } from '../apply.ts';
import { denseShape, shapeError } from '../check.ts';
import type { OpDefinition, Value } from '../graph.ts';
import { f32 } from '../value-type.ts';

/** x₁ … xₙ of any shapes → y [n], y[i] = Σ xᵢ². */
export const sumSquaresOp: OpDefinition<Record<string, never>> = {
  name: 'sumSquares',
  noGradient: 'sum the squares of each value',
  infer(inputs) {
    if (inputs.length === 0) throw shapeError('sumSquares', 'no values', 'none', 'at least one', 'pass some');
    for (const [i, type] of inputs.entries()) denseShape('sumSquares', `value ${i}`, type);
    return [f32([inputs.length])];
  },
  flops: (inputs) => inputs.reduce((sum, { shape }) => sum + 2 * elementCount(shape), 0),
};

/** The sum of the squares of each value, f32 [n]. */
export const sumSquares = (values: readonly Value[]): Value => applyOp(sumSquaresOp, values, {})[0];
