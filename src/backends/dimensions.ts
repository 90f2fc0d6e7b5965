// Strides of shapes, also through broadcasting, and merging of dimensions that several layouts walk alike.

import type { Shape } from '../tensor/shape.ts';

/** Row-major strides in elements. */
export function strides(shape: Shape): number[] {
  const result = new Array<number>(shape.length);
  let step = 1;
  for (let d = shape.length - 1; d >= 0; d--) {
    result[d] = step;
    step *= shape[d];
  }
  return result;
}

/**
 * Rows (size, stride in each layout), outermost first, that visit the same elements in the same order as `shape`
 * with the given strides: dimensions of size 1 disappear, and neighbours join where every layout is contiguous over
 * them. At least one row is left, of size 1 for a scalar; its strides are then those of a repeated element, 0.
 */
export function mergeDimensions(shape: Shape, layouts: readonly (readonly number[])[]): number[][] {
  const rows: number[][] = [];
  for (let d = shape.length - 1; d >= 0; d--) {
    if (shape[d] === 1) continue;
    const row = [shape[d], ...layouts.map((layout) => layout[d])];
    const inner = rows[0];
    if (inner?.slice(1).every((stride, i) => row[i + 1] === stride * inner[0])) inner[0] *= row[0];
    else rows.unshift(row);
  }
  return rows.length > 0 ? rows : [[1, ...layouts.map(() => 0)]];
}

/** Strides of an operand seen through broadcasting to `shape`: 0 where it repeats. */
export function broadcastStrides(operand: Shape, shape: Shape): number[] {
  const own = strides(operand);
  const lead = shape.length - operand.length;
  return shape.map((_, d) => (d < lead || operand[d - lead] === 1 ? 0 : own[d - lead]));
}

export interface Dimension {
  size: number;
  stride: number;
  reduced: boolean;
}

/** Dimensions with neighbours of one role merged, outermost first; dimensions of size 1 belong to any role. */
export function roles(shape: readonly number[], axes: readonly number[]): Dimension[] {
  const dims: Dimension[] = [];
  let stride = 1;
  for (let d = shape.length - 1; d >= 0; d--) {
    const reduced = axes.includes(d);
    const inner = dims[0];
    if (shape[d] === 1) continue;
    if (inner?.reduced === reduced) inner.size *= shape[d];
    else dims.unshift({ size: shape[d], stride, reduced });
    stride *= shape[d];
  }
  return dims.length > 0 ? dims : [{ size: 1, stride: 1, reduced: true }];
}
