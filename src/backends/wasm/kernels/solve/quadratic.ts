// Σ_{k ≤ n} a_k T[k, n] b_n for every row of two matrices and one upper triangle T: with T the upper triangle of a
// symmetric G, its diagonal halved, 2 · the sum for a = b is a G aᵀ. Over all columns, or over square blocks on the diagonal.
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

/** sum + Σ x_j y_j over eight floats, in f64. */
// @ts-ignore: decorator
@inline
function addProducts(sum: f64, x: usize, y: usize): f64 {
  for (let j: usize = 0; j < 32; j += 4) sum += <f64>load<f32>(x + j) * <f64>load<f32>(y + j);
  return sum;
}

/**
 * out[r, i] = the sum for row r over k and n in columns i · span … (i + 1) · span − 1: `a` packed by packRows, `b`
 * row-major; span is a multiple of eight that divides columns. `spares`: 256 bytes a thread.
 */
export function bilinearRows(
  a: usize,
  b: usize,
  rows: i32,
  columns: i32,
  span: i32,
  triangle: usize,
  out: usize,
  spares: usize,
  thread: i32,
  threads: i32,
): void {
  const stride = <usize>columns << 2;
  const spare = spares + ((<usize>thread) << 8);
  const groups = rows / 6;
  const outRow = <usize>(columns / span) << 3;
  const end = shareEnd(groups, 1, thread, threads);
  for (let from = shareStart(groups, 1, thread, threads); from < end; from += groupsAtOnce) {
    const to = min(from + groupsAtOnce, end);
    memory.fill(out + <usize>from * 6 * outRow, 0, <usize>(to - from) * 6 * outRow);
    for (let first = 0; first < columns; first += span) {
      const last = first + span;
      for (let n0 = first; n0 < last; n0 += columnsAtOnce) {
        const n1 = min(n0 + columnsAtOnce, last);
        for (let k = first; k < n1; k += depthAtOnce) {
          for (let g = from; g < to; g++) {
            const row = <usize>g * 6;
            const line = a + row * stride + <usize>k * 24;
            const sums = out + row * outRow + (<usize>(first / span) << 3);
            for (let n = max(n0, k); n < n1; n += 8) {
              const depth = min(depthAtOnce, n + 8 - k);
              tileF32(depth, line, triangle + panelAt(n >> 3) + (<usize>k << 5), spare, 32, false);
              for (let i: usize = 0; i < 6; i++) {
                const sum = sums + i * outRow;
                const factor = b + (row + i) * stride + (<usize>n << 2);
                store<f64>(sum, addProducts(load<f64>(sum), spare + (i << 5), factor));
              }
            }
          }
        }
      }
    }
  }
}
