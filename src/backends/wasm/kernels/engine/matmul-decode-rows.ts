// Decodes all rows of a packed matrix to f32, in shares of rows.
// Words: rows, columns, destination, 0; source description.

import { shareEnd, shareStart } from '../common/share.ts';
import { decodeRow } from './matmul-decode.ts';

export function decodeRows(args: usize, thread: i32, threads: i32): void {
  const rows = load<i32>(args);
  const columns = load<i32>(args + 4);
  const stride = (<usize>columns) << 2;
  const end = shareEnd(rows, 1, thread, threads);
  const start = shareStart(rows, 1, thread, threads);
  let out = load<usize>(args + 8) + <usize>start * stride;
  for (let row = start; row < end; row++) {
    decodeRow(args + 16, row, 0, columns, out);
    out += stride;
  }
}
