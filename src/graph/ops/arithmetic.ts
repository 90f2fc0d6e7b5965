// Elementwise arithmetic on two values with NumPy broadcasting. A bias is added with add.

import { elementCount } from '../../tensor/shape.ts';
import { applyOp } from '../apply.ts';
import { broadcastShapes } from '../broadcast.ts';
import { denseShape } from '../check.ts';
import type { OpDefinition, Value } from '../graph.ts';
import { f32 } from '../value-type.ts';

export type ArithmeticName = 'add' | 'sub' | 'mul' | 'div';
type NoAttributes = Record<string, never>;

function declareArithmetic(name: ArithmeticName): OpDefinition<NoAttributes> {
  return {
    name,
    elementwise: true,
    infer: ([a, b]) => [f32(broadcastShapes(name, denseShape(name, 'a', a), denseShape(name, 'b', b)))],
    flops: ([a, b]) => elementCount(broadcastShapes(name, a.shape, b.shape)),
  };
}

export const addOp = declareArithmetic('add');
export const subOp = declareArithmetic('sub');
export const mulOp = declareArithmetic('mul');
export const divOp = declareArithmetic('div');

/** a + b with broadcasting: add(x [B, T, C], bias [C]). */
export const add = (a: Value, b: Value): Value => applyOp(addOp, [a, b], {})[0];

/** a − b with broadcasting. */
export const sub = (a: Value, b: Value): Value => applyOp(subOp, [a, b], {})[0];

/** a · b, element by element, with broadcasting. */
export const mul = (a: Value, b: Value): Value => applyOp(mulOp, [a, b], {})[0];

/** a / b, element by element, with broadcasting; division by zero gives ±infinity or NaN. */
export const div = (a: Value, b: Value): Value => applyOp(divOp, [a, b], {})[0];
