// NumPy broadcasting: shapes are aligned at the last dimension; a dimension of 1 stretches.

import { printShape, type Shape } from '../tensor/shape.ts';
import { shapeError } from './check.ts';

/** The common shape of `a` and `b`: [4, 1, 3] and [2, 1] give [4, 2, 3]. Throws when two dimensions differ. */
export function broadcastShapes(op: string, a: Shape, b: Shape): Shape {
  const rank = Math.max(a.length, b.length);
  return Array.from({ length: rank }, (_, i) => {
    const x = a[i - rank + a.length] ?? 1;
    const y = b[i - rank + b.length] ?? 1;
    if (x === y || y === 1) return x;
    if (x === 1) return y;
    const got = `${printShape(a)} and ${printShape(b)}`;
    throw shapeError(op, 'shapes do not broadcast', got, 'equal dimensions or 1', 'reshape one of them');
  });
}
