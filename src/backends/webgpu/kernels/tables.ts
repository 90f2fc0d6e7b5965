// Rows picked by an index: embedding from a dense table, cacheWrite of dense rows.
//
// Thread map: one thread for each number that is copied. No workgroup memory, no features. Data moves as u32. An index
// outside the table is reported; the row of an embedding is then zero, and the cache stays as it is.

import { elementCount } from '../../../tensor/shape.ts';
import { cacheRangeError, embeddingIdError } from '../../data-error-codes.ts';
import { forEachItem } from '../entry.ts';
import { dense, type KernelTable, type OpKernel, read, write } from '../kernel.ts';

const embedding: OpKernel = {
  unsupported: ({ inputs: [table] }) => (table.type.dtype === 'packed' ? 'a packed table' : undefined),
  encode({ inputs, outputs }) {
    const [table, ids, y] = [dense(inputs, 0), dense(inputs, 1), dense(outputs, 0)];
    const [V, C] = table.shape;
    return [
      {
        bindings: { table: read(table, 'u32'), ids: read(ids), y: write(y, 'u32') },
        reports: true,
        ...forEachItem(
          elementCount(y.shape),
          (n) => `let id = ${n.ids}[i / ${C}u];
  if (u32(id) >= ${V}u) {
    report(${embeddingIdError}u, id);
    ${n.y}[i] = 0u;
  } else {
    ${n.y}[i] = ${n.table}[u32(id) * ${C}u + i % ${C}u];
  }`,
        ),
      },
    ];
  },
};

const cacheWrite: OpKernel = {
  unsupported: ({ inputs: [cache] }) => (cache.type.dtype === 'packed' ? 'a packed cache' : undefined),
  encode({ inputs, outputs }) {
    const [x, start, cache] = [dense(inputs, 1), dense(inputs, 2), dense(outputs, 0)];
    const [, S, G, D] = cache.shape;
    const T = x.shape[1];
    return [
      {
        bindings: { x: read(x, 'u32'), start: read(start), cache: write(cache, 'u32') },
        reports: true,
        ...forEachItem(
          elementCount(x.shape),
          (n) => `let start = ${n.start}[0];
  if (start < 0 || start > ${S - T}) {
    report(${cacheRangeError}u, start);
    return;
  }
  let batch = i / ${T * G * D}u;
  ${n.cache}[batch * ${S * G * D}u + u32(start) * ${G * D}u + i % ${T * G * D}u] = ${n.x}[i];`,
        ),
      },
    ];
  },
};

export const tableKernels: KernelTable = { embedding, cacheWrite };
