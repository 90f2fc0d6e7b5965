// Rows of a table, picked by id.

import { checkIndex, type Kernel, numbers, target } from './kernel.ts';

export const embedding: Kernel = ([table, ids], [y]) => {
  const [rows, index, to] = [numbers(table), numbers(ids), target(y)];
  const [V, C] = table.shape;
  index.forEach((id, i) => {
    checkIndex('embedding', `id at position ${i}`, id, 0, V - 1);
    to.set(rows.subarray(id * C, (id + 1) * C), i * C);
  });
};
