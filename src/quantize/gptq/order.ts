// Orders of columns by the mean square of their inputs, the diagonal of the Hessian.

/** Columns by falling diagonal; of equal ones the earlier first. */
export function activationOrder(diagonal: Float32Array): Uint32Array {
  return Uint32Array.from(diagonal.keys()).sort((a, b) => diagonal[b] - diagonal[a] || a - b);
}

/** Columns by falling diagonal within each group of `size`, groups by their largest: whole groups move. */
export function groupOrder(diagonal: Float32Array, size: number): Uint32Array {
  const groups: Uint32Array[] = [];
  for (let first = 0; first < diagonal.length; first += size)
    groups.push(activationOrder(diagonal.subarray(first, first + size)).map((c) => c + first));
  groups.sort((a, b) => diagonal[b[0]] - diagonal[a[0]] || a[0] - b[0]);
  return Uint32Array.from(groups.flatMap((g) => [...g]));
}
