// Sums, means and maxima over axes, and the position of the maximum.

import { elementCount, printShape, type Shape } from '../../tensor/shape.ts';
import { applyOp } from '../apply.ts';
import { denseShape, resolveAxis, shapeError } from '../check.ts';
import type { OpDefinition, Value } from '../graph.ts';
import { f32, i32 } from '../value-type.ts';

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
};

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
