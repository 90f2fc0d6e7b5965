// Functions of one number, applied to every element.

import { elementCount } from '../../tensor/shape.ts';
import { applyOp } from '../apply.ts';
import { denseShape, expectShape } from '../check.ts';
import type { OpDefinition, Value } from '../graph.ts';
import { perInput } from '../rule.ts';
import { f32 } from '../value-type.ts';

export const unaryKinds = [
  'negate',
  'exp',
  'log',
  'sqrt',
  'rsqrt',
  'square',
  'sigmoid',
  'tanh',
  'relu',
  'silu',
  'gelu',
  'geluTanh',
] as const;
export type UnaryKind = (typeof unaryKinds)[number];

export interface UnaryAttributes {
  kind: UnaryKind;
}

/** y[i] = kind(x[i]). */
export const unaryOp: OpDefinition<UnaryAttributes> = {
  name: 'unary',
  elementwise: true,
  infer: ([x], { kind }) => [f32(denseShape(kind, 'x', x))],
  flops: ([x]) => elementCount(x.shape),
  gradient: perInput(({ inputs: [x], attributes }, g) => [() => applyOp(unaryBackwardOp, [x, g], attributes)[0]]),
};

/** dx[i] = kind′(x[i]) · dy[i]; relu′(0) = 0. */
export const unaryBackwardOp: OpDefinition<UnaryAttributes> = {
  name: 'unaryBackward',
  elementwise: true,
  infer([x, dy], { kind }) {
    const shape = denseShape('unaryBackward', 'x', x);
    expectShape(
      'unaryBackward',
      'dy',
      denseShape('unaryBackward', 'dy', dy),
      shape,
      `dy is the gradient of ${kind}(x)`,
    );
    return [f32(shape)];
  },
  flops: ([x]) => 2 * elementCount(x.shape),
};

const unary =
  (kind: UnaryKind) =>
  (x: Value): Value =>
    applyOp(unaryOp, [x], { kind })[0];

/** −x */
export const negate = unary('negate');
/** e^x */
export const exp = unary('exp');
/** Natural logarithm. */
export const log = unary('log');
export const sqrt = unary('sqrt');
/** 1/√x */
export const rsqrt = unary('rsqrt');
/** x² */
export const square = unary('square');
/** 1 / (1 + e^−x) */
export const sigmoid = unary('sigmoid');
export const tanh = unary('tanh');
/** max(x, 0) */
export const relu = unary('relu');
/** x · sigmoid(x) */
export const silu = unary('silu');
/** x · Φ(x) with the exact normal distribution function Φ (Hendrycks and Gimpel 2016). */
export const gelu = unary('gelu');
/** x/2 · (1 + tanh(√(2/π) · (x + 0.044715 x³))), the approximation that GPT-2 uses. */
export const geluTanh = unary('geluTanh');
