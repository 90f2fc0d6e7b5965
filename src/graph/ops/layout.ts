// Ops that only move data: reshape, transpose, slice, concat, pad.

import { elementCount, printShape, type Shape } from '../../tensor/shape.ts';
import { applyOp } from '../apply.ts';
import { expectShape, resolveAxis, shapeError } from '../check.ts';
import type { OpDefinition, Value, ValueType } from '../graph.ts';
import { perInput } from '../rule.ts';
import { packed, printType } from '../value-type.ts';

export interface ReshapeAttributes {
  shape: Shape;
}

/** The same elements in row-major order under another shape; the output shares the input's memory. */
export const reshapeOp: OpDefinition<ReshapeAttributes> = {
  name: 'reshape',
  inPlace: { 0: 0 },
  infer([x], { shape }) {
    if (elementCount(shape) !== elementCount(x.shape))
      throw shapeError(
        'reshape',
        'the number of elements changes',
        printShape(x.shape),
        printShape(shape),
        'check the target shape',
      );
    if (x.dtype !== 'packed') return [{ dtype: x.dtype, shape }];
    if (shape.at(-1) !== x.shape.at(-1))
      throw shapeError(
        'reshape',
        'packed rows cannot be cut',
        printType(x),
        `last dimension ${x.shape.at(-1)}`,
        'keep the last dimension or dequantize first',
      );
    return [packed(shape, x.format)];
  },
  gradient: perInput(({ inputs: [x] }, g) => [() => reshape(g, x.type.shape)]),
};

/** Gives x another shape; one dimension may be -1 and is worked out. */
export function reshape(x: Value, shape: Shape): Value {
  const known = elementCount(shape.filter((d) => d !== -1));
  const resolved = shape.map((d) => (d === -1 ? Math.floor(elementCount(x.type.shape) / known) : d));
  return applyOp(reshapeOp, [x], { shape: resolved })[0];
}

export interface TransposeAttributes {
  permutation: readonly number[];
}

/** y[i_p0, i_p1, …] = x[i_0, i_1, …]: dimension d of y is dimension permutation[d] of x. */
export const transposeOp: OpDefinition<TransposeAttributes> = {
  name: 'transpose',
  infer([x], { permutation }) {
    const dtype = denseType('transpose', x);
    const sorted = [...permutation].sort((a, b) => a - b);
    if (permutation.length !== x.shape.length || sorted.some((d, i) => d !== i))
      throw shapeError(
        'transpose',
        'not a permutation of the dimensions',
        `[${permutation.join(', ')}] for ${printShape(x.shape)}`,
        `every number below ${x.shape.length} once`,
        'name each dimension once',
      );
    return [{ dtype, shape: permutation.map((d) => x.shape[d]) }];
  },
  gradient: perInput(({ attributes: { permutation } }, g) => [
    () =>
      transpose(
        g,
        [...permutation.keys()].map((d) => permutation.indexOf(d)),
      ),
  ]),
};

/** Reorders dimensions: transpose(x, [0, 2, 1]) swaps the last two of three. */
export function transpose(x: Value, permutation: readonly number[]): Value {
  return applyOp(transposeOp, [x], { permutation })[0];
}

export interface SliceAttributes {
  axis: number;
  start: number;
  length: number;
}

/** `length` entries of one axis from `start`. */
export const sliceOp: OpDefinition<SliceAttributes> = {
  name: 'slice',
  infer([x], { axis, start, length }) {
    const dtype = denseType('slice', x);
    const size = x.shape[axis];
    const whole = Number.isInteger(start) && Number.isInteger(length);
    if (!whole || start < 0 || length < 1 || start + length > size)
      throw shapeError(
        'slice',
        `outside axis ${axis} of ${printShape(x.shape)}`,
        `${start} … ${start + length - 1}`,
        `within 0 … ${size - 1}`,
        'shorten the slice',
      );
    return [{ dtype, shape: x.shape.map((d, i) => (i === axis ? length : d)) }];
  },
  gradient: perInput(({ inputs: [x], attributes: { axis, start, length } }, g) => [
    () => pad(g, axis, start, x.type.shape[axis] - start - length),
  ]),
};

/** Entries start … start+length−1 of an axis; the axis may be counted from the end. */
export function slice(x: Value, axis: number, start: number, length: number): Value {
  return applyOp(sliceOp, [x], { axis: resolveAxis('slice', axis, x.type.shape), start, length })[0];
}

export interface ConcatAttributes {
  axis: number;
}

/** Joins tensors along one axis; all other dimensions are equal. */
export const concatOp: OpDefinition<ConcatAttributes> = {
  name: 'concat',
  infer(inputs, { axis }) {
    const first = inputs[0];
    const dtype = denseType('concat', first);
    let total = 0;
    inputs.forEach((x, i) => {
      if (denseType('concat', x) !== dtype)
        throw shapeError('concat', `input ${i} has another dtype`, printType(x), printType(first), 'concat one dtype');
      const expected = first.shape.map((d, j) => (j === axis ? x.shape[axis] : d));
      expectShape('concat', `input ${i}`, x.shape, expected, `make all dimensions but axis ${axis} equal`);
      total += x.shape[axis];
    });
    return [{ dtype, shape: first.shape.map((d, j) => (j === axis ? total : d)) }];
  },
  gradient: perInput(({ inputs, attributes: { axis } }, g) => {
    let end = 0;
    return inputs.map((x) => {
      const start = end;
      end += x.type.shape[axis];
      return () => slice(g, axis, start, x.type.shape[axis]);
    });
  }),
};

/** Joins one or more values along an axis; the axis may be counted from the end. */
export function concat(values: readonly Value[], axis: number): Value {
  return applyOp(concatOp, values, { axis: resolveAxis('concat', axis, values[0].type.shape) })[0];
}

export interface PadAttributes {
  axis: number;
  before: number;
  after: number;
}

/** Zeros before and after x along one axis. */
export const padOp: OpDefinition<PadAttributes> = {
  name: 'pad',
  infer([x], { axis, before, after }) {
    const dtype = denseType('pad', x);
    if (![before, after].every((n) => Number.isSafeInteger(n) && n >= 0))
      throw shapeError(
        'pad',
        'bad number of zeros',
        `${before} and ${after}`,
        'whole numbers from 0',
        'use slice to cut',
      );
    return [{ dtype, shape: x.shape.map((d, i) => (i === axis ? before + d + after : d)) }];
  },
  gradient: perInput(({ inputs: [x], attributes: { axis, before } }, g) => [
    () => slice(g, axis, before, x.type.shape[axis]),
  ]),
};

/** x with `before` and `after` zeros added to an axis, which may be counted from the end. */
export function pad(x: Value, axis: number, before: number, after: number): Value {
  return applyOp(padOp, [x], { axis: resolveAxis('pad', axis, x.type.shape), before, after })[0];
}

function denseType(op: string, type: ValueType): 'f32' | 'i32' {
  if (type.dtype !== 'packed') return type.dtype;
  throw shapeError(op, 'packed values cannot be rearranged', printType(type), 'f32 or i32', 'call dequantize first');
}
