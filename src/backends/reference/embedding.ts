// Rows of a table, picked by id. Of a packed table only the rows asked for are decoded.

import { dequantizeRows } from '../../formats/quantize.ts';
import { checkIndex, type Kernel, numbers, target } from './kernel.ts';

export const embedding: Kernel = ([table, ids], [y]) => {
  const [index, to] = [numbers(ids), target(y)];
  const [V, C] = table.shape;
  const decoded = new Float32Array(C);
  index.forEach((id, i) => {
    checkIndex('embedding', `id at position ${i}`, id, 0, V - 1);
    const row =
      table.kind === 'dense' ? table.data.subarray(id * C, (id + 1) * C) : dequantizeRows(table.data, id, 1, decoded);
    to.set(row, i * C);
  });
};
