// Strides of shapes, and merging of dimensions that several layouts walk alike.

import type { Shape } from '../../../tensor/shape.ts';

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
