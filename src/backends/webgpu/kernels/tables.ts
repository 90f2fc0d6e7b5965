// Rows picked by an index: embedding (packed tables: dequantize.ts), cacheWrite of dense rows
// (packed rows: kv-write.ts).
//
// Thread map: one thread for each number that is copied. No workgroup memory, no features. Data moves as u32. An index
// outside the table is reported; the row of an embedding is then zero, and the cache stays as it is. A table may be
// bound in parts, one at a time.

import { elementCount } from '../../../tensor/shape.ts';
import { cacheRangeError, embeddingIdError } from '../../data-error-codes.ts';
import { forEachItem } from '../entry.ts';
import { type Command, dense, type EncodeContext, type KernelTable, type OpKernel, read, write } from '../kernel.ts';
import { packedEmbedding } from './dequantize.ts';
import { writePackedRows } from './kv-write.ts';
import type { TablePart } from './table-part.ts';

export function encodeEmbedding(context: EncodeContext, part: TablePart): readonly Command[] {
  const { inputs, outputs } = context;
  if (inputs[0].dtype === 'packed') return packedEmbedding(context, part);
  const [table, ids, y] = [dense(inputs, 0), dense(inputs, 1), dense(outputs, 0)];
  const [V, C] = table.shape;
  const { first, total, others } = part;
  return [
    {
      bindings: { table: read(table, 'u32'), ids: read(ids), y: write(y, 'u32') },
      reports: true,
      ...forEachItem(
        elementCount(y.shape),
        (n) => `let id = ${n.ids}[i / ${C}u];
  let row = u32(id) - ${first}u; /* wraps below the first row */
  if (u32(id) >= ${total}u) { report(${embeddingIdError}u, id); }
  if (row < ${V}u) {
    ${n.y}[i] = ${n.table}[row * ${C}u + i % ${C}u];
  } ${others === 'zero' ? `else { ${n.y}[i] = 0u; }` : ''}`,
      ),
    },
  ];
}

const embedding: OpKernel = {
  encode: (context) => encodeEmbedding(context, { first: 0, total: context.inputs[0].shape[0], others: 'zero' }),
};

const cacheWrite: OpKernel = {
  encode(context) {
    const { inputs, outputs } = context;
    if (inputs[0].dtype === 'packed') return writePackedRows(context);
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
