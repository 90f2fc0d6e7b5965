// Shapes: row-major, outermost dimension first.

export type Shape = readonly number[];

/** Number of elements of a shape; 1 for a scalar. */
export function elementCount(shape: Shape): number {
  let n = 1;
  for (const d of shape) n *= d;
  return n;
}

export function sameShape(a: Shape, b: Shape): boolean {
  return a.length === b.length && a.every((d, i) => d === b[i]);
}

/** `[2, 3]`, as shown in messages. */
export function printShape(shape: Shape): string {
  return `[${shape.join(', ')}]`;
}
