// Elementwise arithmetic on two values with NumPy broadcasting. A bias is added with add.

import { elementCount } from '../../tensor/shape.ts';
import { applyOp } from '../apply.ts';
import { broadcastShapes } from '../broadcast.ts';
import { denseShape } from '../check.ts';
import type { GradientRule, OpDefinition, Value } from '../graph.ts';
import { perInput } from '../rule.ts';
import { f32 } from '../value-type.ts';
import { affine } from './affine.ts';
import { sumTo } from './reduce.ts';

export type ArithmeticName = 'add' | 'sub' | 'mul' | 'div';
type NoAttributes = Record<string, never>;

function declareArithmetic(name: ArithmeticName, gradient: GradientRule<NoAttributes>): OpDefinition<NoAttributes> {
  return {
    name,
    elementwise: true,
    infer: ([a, b]) => [f32(broadcastShapes(name, denseShape(name, 'a', a), denseShape(name, 'b', b)))],
    gradient,
    flops: ([a, b]) => elementCount(broadcastShapes(name, a.shape, b.shape)),
  };
}

/** A rule for both operands, each gradient summed over the dimensions along which its operand was stretched. */
const rule = (
  left: (g: Value, a: Value, b: Value, y: Value) => Value,
  right: (g: Value, a: Value, b: Value, y: Value) => Value,
): GradientRule<NoAttributes> =>
  perInput(({ inputs: [a, b], outputs: [y] }, g) => [
    () => sumTo(left(g, a, b, y), a.type.shape),
    () => sumTo(right(g, a, b, y), b.type.shape),
  ]);
const minus = (x: Value) => affine(x, { scale: -1 });

export const addOp = declareArithmetic(
  'add',
  rule(
    (g) => g,
    (g) => g,
  ),
);
export const subOp = declareArithmetic(
  'sub',
  rule((g) => g, minus),
);
export const mulOp = declareArithmetic(
  'mul',
  rule(
    (g, _, b) => mul(g, b),
    (g, a) => mul(g, a),
  ),
);
export const divOp = declareArithmetic(
  'div',
  rule(
    (g, _, b) => div(g, b),
    (g, _, b, y) => minus(mul(div(g, b), y)),
  ),
);

/** a + b with broadcasting: add(x [B, T, C], bias [C]). */
export const add = (a: Value, b: Value): Value => applyOp(addOp, [a, b], {})[0];

/** a − b with broadcasting. */
export const sub = (a: Value, b: Value): Value => applyOp(subOp, [a, b], {})[0];

/** a · b, element by element, with broadcasting. */
export const mul = (a: Value, b: Value): Value => applyOp(mulOp, [a, b], {})[0];

/** a / b, element by element, with broadcasting; division by zero gives ±infinity or NaN. */
export const div = (a: Value, b: Value): Value => applyOp(divOp, [a, b], {})[0];
