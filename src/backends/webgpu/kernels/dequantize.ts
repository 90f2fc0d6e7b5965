// Packed values to f32: dequantize, and embedding from a packed table. Bit for bit the reference codec's values.
//
// Thread map: one thread for eight neighbouring values of a row (wgsl/decode.ts): for four-bit codes one word in, two
// vec4 out. Rows that are no multiple of eight are written value by value. No workgroup memory, no features.

import { elementCount } from '../../../tensor/shape.ts';
import { embeddingIdError } from '../../data-error-codes.ts';
import { forEachItem } from '../entry.ts';
import {
  type Command,
  dense,
  type EncodeContext,
  type KernelTable,
  type OpKernel,
  packedOperand,
  read,
  write,
} from '../kernel.ts';
import { decodeSource } from '../wgsl/decode.ts';
import type { TablePart } from './table-part.ts';

/** Statements that write `eight` to columns `col` … of row `to` of y [*, cols]. */
function storeEight(y: string, cols: number): string {
  if (cols % 8 === 0)
    return `let at = (to * ${cols}u + col) / 4u;
  ${y}[at] = eight.low;
  ${y}[at + 1u] = eight.high;`;
  return `for (var j = 0u; j < 8u && col + j < ${cols}u; j++) {
    ${y}[to * ${cols}u + col + j] = select(eight.high[j & 3u], eight.low[j & 3u], j < 4u);
  }`;
}

const yType = (cols: number) => (cols % 8 === 0 ? ('vec4<f32>' as const) : ('f32' as const));

const dequantize: OpKernel = {
  encode({ inputs, outputs }) {
    const [x, y] = [packedOperand(inputs, 0), dense(outputs, 0)];
    const { rows, cols } = x;
    const eights = Math.ceil(cols / 8);
    return [
      {
        bindings: { x: read(x), y: write(y, yType(cols)) },
        ...forEachItem(
          rows * eights,
          (n) => `let to = i / ${eights}u;
  let col = i % ${eights}u * 8u;
  let eight = xEight(to, col);
  ${storeEight(n.y, cols)}`,
          (n) => decodeSource([{ prefix: 'x', array: n.x, matrix: x }]),
        ),
      },
    ];
  },
};

/** Embedding whose table, or the part of it that is bound, is packed; an id without a row is reported. */
export function packedEmbedding({ inputs, outputs }: EncodeContext, { first, total, others }: TablePart): Command[] {
  const [table, ids, y] = [packedOperand(inputs, 0), dense(inputs, 1), dense(outputs, 0)];
  const { cols } = table;
  const eights = Math.ceil(cols / 8);
  return [
    {
      bindings: { table: read(table), ids: read(ids), y: write(y, yType(cols)) },
      reports: true,
      ...forEachItem(
        elementCount(ids.shape) * eights,
        (n) => `let to = i / ${eights}u;
  let col = i % ${eights}u * 8u;
  let id = ${n.ids}[to];
  let row = u32(id) - ${first}u; /* wraps below the first row */
  if (u32(id) >= ${total}u) { report(${embeddingIdError}u, id); }
  var eight = Eight();
  if (row < ${table.rows}u) { eight = xEight(row, col); }${others === 'keep' ? ' else { return; }' : ''}
  ${storeEight(n.y, cols)}`,
        (n) => decodeSource([{ prefix: 'x', array: n.table, matrix: table }]),
      ),
    },
  ];
}

export const dequantizeKernels: KernelTable = { dequantize };
