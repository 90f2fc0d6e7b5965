// Σ_{k ≤ n} a_k T[k, n] b_n for every row of two matrices and one upper triangle T: with T the upper triangle of a
// symmetric G, its diagonal halved, 2 · the sum for a = b is a G aᵀ.
//
// The inner sums are f32 tile products of at most 512 terms, everything above them is added up in f64, in an order that
// does not depend on the threads.

import { shareEnd, shareStart } from '../common/share';
import { packLines6 } from '../engine/matmul-panels';
import { tileF32 } from '../engine/matmul-tile';
import { panelAt } from './panels';

const depthAtOnce: i32 = 512;
const columnsAtOnce: i32 = 128;
const groupsAtOnce: i32 = 32;

/** Row-major `a` [rows, columns] as [group][column][6]; rows and columns are padded as in columns.ts. */
export function packRows(a: usize, rows: i32, columns: i32, panels: usize, thread: i32, threads: i32): void {
  const stride = <usize>columns << 2;
  const end = shareEnd(rows, 6, thread, threads);
  for (let r = shareStart(rows, 6, thread, threads); r < end; r += 6)
    packLines6(a + <usize>r * stride, stride, 6, columns, panels + <usize>r * stride);
}

/** out[r] = the sum for row r: `a` packed by packRows, `b` row-major. `spares`: 256 bytes a thread. */
export function bilinearRows(
  a: usize,
  b: usize,
  rows: i32,
  columns: i32,
  triangle: usize,
  out: usize,
  spares: usize,
  thread: i32,
  threads: i32,
): void {
  const stride = <usize>columns << 2;
  const spare = spares + ((<usize>thread) << 8);
  const groups = rows / 6;
  const end = shareEnd(groups, 1, thread, threads);
  for (let from = shareStart(groups, 1, thread, threads); from < end; from += groupsAtOnce) {
    const to = min(from + groupsAtOnce, end);
    memory.fill(out + <usize>from * 48, 0, <usize>(to - from) * 48);
    for (let n0 = 0; n0 < columns; n0 += columnsAtOnce) {
      const n1 = min(n0 + columnsAtOnce, columns);
      for (let k = 0; k < n1; k += depthAtOnce) {
        for (let g = from; g < to; g++) {
          const line = a + <usize>g * 6 * stride + <usize>k * 24;
          const sums = out + <usize>g * 48;
          for (let n = max(n0, k); n < n1; n += 8) {
            const depth = min(depthAtOnce, n + 8 - k);
            tileF32(depth, line, triangle + panelAt(n >> 3) + (<usize>k << 5), spare, 32, false);
            for (let i: usize = 0; i < 6; i++) {
              const factor = b + (<usize>g * 6 + i) * stride + (<usize>n << 2);
              let sum = load<f64>(sums + (i << 3));
              for (let j: usize = 0; j < 8; j++)
                sum += <f64>load<f32>(spare + (i << 5) + (j << 2)) * <f64>load<f32>(factor + (j << 2));
              store<f64>(sums + (i << 3), sum);
            }
          }
        }
      }
    }
  }
}
