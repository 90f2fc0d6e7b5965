// Rows of tables by id. A packed row is decoded by the code of the matrix products.

import { embeddingIdError } from '../../../data-error-codes';
import { address, word } from '../common/args';
import { shareEnd, shareStart } from '../common/share';
import { reportError } from './error';
import { decodeRow } from './matmul-decode';

/**
 * Rows of a table [V, C] by ids. Words: table (dense; 0: packed), ids, out, count, V, C, then the source description
 * of a packed table. An id outside the table is reported and gives zeros.
 */
export function embedding(args: usize, thread: i32, threads: i32): void {
  const table = address(args, 0);
  const ids = address(args, 1);
  const count = word(args, 3);
  const rows = word(args, 4);
  const columns = word(args, 5);
  const rowBytes = (<usize>columns) << 2;
  const end = shareEnd(count, 1, thread, threads);
  for (let i = shareStart(count, 1, thread, threads); i < end; i++) {
    const id = load<i32>(ids + ((<usize>i) << 2));
    const out = address(args, 2) + <usize>i * rowBytes;
    if (id < 0 || id >= rows) {
      reportError(embeddingIdError, id);
      memory.fill(out, 0, rowBytes);
    } else if (table != 0) memory.copy(out, table + <usize>id * rowBytes, rowBytes);
    else decodeRow(args + 24, id, 0, columns, out);
  }
}
