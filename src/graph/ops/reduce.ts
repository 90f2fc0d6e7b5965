// Sums, means and maxima over axes, the position of the maximum, and stretching, which is the gradient of a sum.

import { elementCount, printShape, type Shape, sameShape } from '../../tensor/shape.ts';
import { applyOp } from '../apply.ts';
import { broadcastShapes } from '../broadcast.ts';
import { denseShape, expectShape, resolveAxis, shapeError } from '../check.ts';
import type { OpDefinition, Value } from '../graph.ts';
import { perInput } from '../rule.ts';
import { f32, i32 } from '../value-type.ts';
import { affine } from './affine.ts';
import { reshape } from './layout.ts';

export interface ReduceAttributes {
  kind: 'sum' | 'mean' | 'max';
  /** Counted from the start, ascending, each once. */
  axes: readonly number[];
  /** Reduced dimensions stay as 1; otherwise they disappear. */
  keepDims: boolean;
}

/** Combines all elements that differ only in the reduced axes. A NaN makes its result NaN, also under max. */
export const reduceOp: OpDefinition<ReduceAttributes> = {
  name: 'reduce',
  infer([x], { kind, axes, keepDims }) {
    const shape = denseShape(kind, 'x', x);
    if (axes.length === 0 || axes.some((axis, i) => i > 0 && axis <= axes[i - 1]))
      throw shapeError(
        kind,
        'axes must differ',
        `[${axes.join(', ')}]`,
        `axes of ${printShape(shape)}, each once`,
        'name an axis once',
      );
    const kept = keepDims ? shape.map((d, i) => (axes.includes(i) ? 1 : d)) : shape.filter((_, i) => !axes.includes(i));
    return [f32(kept)];
  },
  flops: ([x]) => elementCount(x.shape),
  gradient: perInput(({ inputs: [x], outputs: [y], attributes: { kind, axes } }, g) => [
    () => {
      const { shape } = x.type;
      const kept = shape.map((d, i) => (axes.includes(i) ? 1 : d));
      if (kind === 'max') return applyOp(maxBackwardOp, [x, reshape(y, kept), reshape(g, kept)], {})[0];
      const each = kind === 'mean' ? affine(g, { scale: elementCount(kept) / elementCount(shape) }) : g;
      return broadcastTo(reshape(each, kept), shape);
    },
  ]),
};

/** The gradient goes to the maximum, in equal parts to all elements that attain it. */
export const maxBackwardOp: OpDefinition<Record<string, never>> = {
  name: 'maxBackward',
  infer([x, y, dy]) {
    const shape = denseShape('maxBackward', 'x', x);
    const reduced = denseShape('maxBackward', 'y', y, shape.length);
    expectShape('maxBackward', 'y', broadcastShapes('maxBackward', reduced, shape), shape, 'keep reduced axes as 1');
    expectShape('maxBackward', 'dy', denseShape('maxBackward', 'dy', dy), reduced, 'give one gradient a maximum');
    return [f32(shape)];
  },
};

export interface BroadcastAttributes {
  shape: Shape;
}

/** Repeats x along dimensions of 1 and new leading dimensions. */
export const broadcastToOp: OpDefinition<BroadcastAttributes> = {
  name: 'broadcastTo',
  infer([x], { shape }) {
    const found = broadcastShapes('broadcastTo', denseShape('broadcastTo', 'x', x), shape);
    expectShape('broadcastTo', 'the result', found, shape, 'only dimensions of 1 stretch');
    return [f32(shape)];
  },
  gradient: perInput(({ inputs: [x] }, g) => [() => sumTo(g, x.type.shape)]),
};

/** x under NumPy broadcasting to `shape`: broadcastTo(x [3, 1], [2, 3, 4]) is [2, 3, 4]. x itself when it fits. */
export const broadcastTo = (x: Value, shape: Shape): Value =>
  sameShape(x.type.shape, shape) ? x : applyOp(broadcastToOp, [x], { shape })[0];

/** The sum over all dimensions along which `shape` would be stretched to x's: the gradient of broadcasting. */
export function sumTo(x: Value, shape: Shape): Value {
  const from = x.type.shape;
  const lead = from.length - shape.length;
  const axes = [...from.keys()].filter((i) => i < lead || (shape[i - lead] === 1 && from[i] !== 1));
  const summed = axes.length > 0 ? sum(x, { axes }) : x;
  return sameShape(summed.type.shape, shape) ? summed : reshape(summed, shape);
}

export interface ReduceOptions {
  /** All axes when absent; negative axes count from the end. */
  axes?: readonly number[];
  keepDims?: boolean;
}

const reduce =
  (kind: ReduceAttributes['kind']) =>
  (x: Value, { axes, keepDims = false }: ReduceOptions = {}): Value => {
    const shape: Shape = x.type.shape;
    const resolved = axes?.map((axis) => resolveAxis(kind, axis, shape)).sort((a, b) => a - b) ?? [...shape.keys()];
    return applyOp(reduceOp, [x], { kind, axes: resolved, keepDims })[0];
  };

/** Sum over axes: sum(x, { axes: [-1] }) of [M, N] is [M]. */
export const sum = reduce('sum');
/** Arithmetic mean over axes. */
export const mean = reduce('mean');
/** Largest element over axes. */
export const max = reduce('max');

/** Index of the largest element of the last axis, the first one on ties. */
export const argmaxOp: OpDefinition<Record<string, never>> = {
  name: 'argmax',
  infer: ([x]) => [i32(denseShape('argmax', 'x', x, [1]).slice(0, -1))],
};

/** x [..., C] → indices i32 [...]. */
export const argmax = (x: Value): Value => applyOp(argmaxOp, [x], {})[0];
