// x·scale + offset with two numbers known at trace time.

import { elementCount } from '../../tensor/shape.ts';
import { applyOp } from '../apply.ts';
import { denseShape } from '../check.ts';
import type { OpDefinition, Value } from '../graph.ts';
import { perInput } from '../rule.ts';
import { f32 } from '../value-type.ts';

export interface AffineAttributes {
  scale: number;
  offset: number;
}

/** y[i] = x[i]·scale + offset. */
export const affineOp: OpDefinition<AffineAttributes> = {
  name: 'affine',
  elementwise: true,
  infer: ([x]) => [f32(denseShape('affine', 'x', x))],
  flops: ([x]) => 2 * elementCount(x.shape),
  gradient: perInput(({ attributes }, g) => [() => affine(g, { scale: attributes.scale })]),
};

/** x·scale + offset: affine(x, { scale: 0.5 }) halves x. */
export function affine(x: Value, { scale = 1, offset = 0 }: Partial<AffineAttributes>): Value {
  return applyOp(affineOp, [x], { scale, offset })[0];
}
