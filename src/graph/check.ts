// Checks shared by the shape rules of ops. Each failure is one sentence with the op, the types and the fix.

import { type SubbyteError, userError } from '../errors.ts';
import { printShape, type Shape } from '../tensor/shape.ts';
import type { ValueType } from './graph.ts';
import { printType } from './value-type.ts';

/** The error of a shape rule; `got` and `expected` are printed types or shapes. */
export function shapeError(op: string, problem: string, got: string, expected: string, fix: string): SubbyteError {
  return userError({ code: 'graph-shape', op, problem, got, expected, fix });
}

/** Every dimension is a positive integer; a batch, sequence or group of nothing is refused here. */
export function checkShape(op: string, label: string, shape: Shape): void {
  if (shape.every((d) => Number.isSafeInteger(d) && d > 0)) return;
  throw shapeError(
    op,
    `${label} has an empty or fractional dimension`,
    printShape(shape),
    'dimensions of at least 1',
    'leave out the empty batch',
  );
}

/** The shape of a dense f32 input; `rank` is exact, `[min]` a minimum. */
export function denseShape(op: string, label: string, type: ValueType, rank?: number | readonly [number]): Shape {
  if (type.dtype !== 'f32') {
    const fix = type.dtype === 'packed' ? 'call dequantize first' : 'pass f32 values';
    throw shapeError(op, `${label} must be dense f32`, printType(type), 'f32', fix);
  }
  checkRank(op, label, type, rank);
  return type.shape;
}

/** The shape of an f32 input that may also be packed. */
export function denseOrPackedShape(
  op: string,
  label: string,
  type: ValueType,
  rank?: number | readonly [number],
): Shape {
  if (type.dtype === 'i32')
    throw shapeError(op, `${label} must hold real numbers`, printType(type), 'f32 or packed', 'pass f32 values');
  checkRank(op, label, type, rank);
  return type.shape;
}

/** The shape of an i32 input. */
export function indexShape(op: string, label: string, type: ValueType, rank?: number | readonly [number]): Shape {
  if (type.dtype !== 'i32')
    throw shapeError(op, `${label} must be i32`, printType(type), 'i32', 'declare the input with i32(shape)');
  checkRank(op, label, type, rank);
  return type.shape;
}

/** The input has exactly this shape. */
export function expectShape(op: string, label: string, shape: Shape, expected: Shape, why: string): void {
  if (shape.length === expected.length && shape.every((d, i) => d === expected[i])) return;
  throw shapeError(op, `${label} has the wrong shape`, printShape(shape), printShape(expected), why);
}

function checkRank(op: string, label: string, type: ValueType, rank: number | readonly [number] | undefined): void {
  if (rank === undefined) return;
  const found = type.shape.length;
  if (typeof rank === 'number' ? found === rank : found >= rank[0]) return;
  const expected = typeof rank === 'number' ? `${rank} dimensions` : `at least ${rank[0]} dimensions`;
  throw shapeError(op, `${label} has ${found} dimensions`, printType(type), expected, 'reshape it first');
}

/** Turns an axis counted from the end into one counted from the start. */
export function resolveAxis(op: string, axis: number, shape: Shape): number {
  const resolved = axis < 0 ? axis + shape.length : axis;
  if (Number.isInteger(axis) && resolved >= 0 && resolved < shape.length) return resolved;
  throw shapeError(
    op,
    `axis ${axis} does not exist`,
    printShape(shape),
    `an axis below ${shape.length}`,
    'count axes from 0, or from the end with -1',
  );
}
