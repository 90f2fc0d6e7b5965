// Sums of outer products of rows: C[e] += Σ a_n b_nᵀ over the rows of an expert, upper triangle only where a = b.
//
// The f32 tile of the matrix products with both operands read across: depth blocks of 512 rows, 128 columns of b packed
// at a time, six columns of a. Every thread owns columns of C, of the triangle about equal areas, so the order of
// summation never depends on `threads`. Rows that are routed are gathered through the list of their expert while
// packing (expertSort, matmul-expert.ts).
//
// Words: a, b, row bytes, rows, K, C, 1 for the triangle, experts, list (0: all rows, one matrix), slots that share a
// row, scratch (gramThreadScratch bytes a thread).

import { packAcross } from './matmul-panels.ts';
import { panelDepth, storeEdge, tileColumns, tileF32, tileRows } from './matmul-tile.ts';
import { shareEnd, shareStart } from '../common/share.ts';

const blockColumns: i32 = 128;
const panelBytes: usize = 6 * 512 * 4;
const tileBytes: usize = 256;
const threadScratch: usize = panelBytes + tileBytes + 128 * 512 * 4;

/** The first column of a thread's share of the triangle: areas grow with the square of the column. */
function triangleStart(K: i32, thread: i32, threads: i32): i32 {
  if (thread >= threads) return K;
  const column = <i32>(<f64>K * Math.sqrt(<f64>thread / <f64>threads));
  return min(((column + tileColumns - 1) / tileColumns) * tileColumns, K);
}

/** Like packAcross, with row p of the panel read from row list[p] / divisor. */
function packListed(
  src: usize,
  stride: usize,
  list: usize,
  divisor: i32,
  count: i32,
  width: i32,
  depth: i32,
  dst: usize,
): void {
  for (let p = 0; p < depth; p++) {
    const line = src + <usize>(load<i32>(list + ((<usize>p) << 2)) / divisor) * stride;
    for (let i = 0; i < width; i++) {
      store<f32>(dst, i < count ? load<f32>(line + ((<usize>i) << 2)) : 0);
      dst += 4;
    }
  }
}

export function gram(args: usize, thread: i32, threads: i32): void {
  const a = load<usize>(args);
  const b = load<usize>(args + 4);
  const stride = load<usize>(args + 8);
  const allRows = load<i32>(args + 12);
  const K = load<i32>(args + 16);
  const triangle = load<i32>(args + 24) != 0;
  const offsets = load<usize>(args + 32);
  const experts = offsets == 0 ? 1 : load<i32>(args + 28);
  const divisor = load<i32>(args + 36);
  const panelA = load<usize>(args + 40) + <usize>thread * threadScratch;
  const tile = panelA + panelBytes;
  const block = tile + tileBytes;
  const strideC = (<usize>K) << 2;
  const n0 = triangle ? triangleStart(K, thread, threads) : shareStart(K, tileColumns, thread, threads);
  const n1 = triangle ? triangleStart(K, thread + 1, threads) : shareEnd(K, tileColumns, thread, threads);
  for (let e = 0; e < experts; e++) {
    const c = load<usize>(args + 20) + <usize>e * <usize>K * strideC;
    const first = offsets == 0 ? 0 : load<i32>(offsets + ((<usize>e) << 2));
    const rows = offsets == 0 ? allRows : load<i32>(offsets + ((<usize>(e + 1)) << 2)) - first;
    const slots = offsets + ((<usize>(experts + 1 + first)) << 2);
    for (let k = 0; k < rows; k += panelDepth) {
      const depth = min(panelDepth, rows - k);
      const panelB = (<usize>depth) << 5;
      const list = slots + ((<usize>k) << 2);
      const line = <usize>k * stride;
      for (let nb = n0; nb < n1; nb += blockColumns) {
        const end = min(nb + blockColumns, n1);
        let to = block;
        for (let n = nb; n < end; n += tileColumns) {
          const columns = min(tileColumns, end - n);
          const from = b + ((<usize>n) << 2);
          if (offsets == 0) packAcross(from + line, stride, columns, tileColumns, depth, to);
          else packListed(from, stride, list, divisor, columns, tileColumns, depth, to);
          to += panelB;
        }
        const last = triangle ? end : K;
        for (let m = 0; m < last; m += tileRows) {
          const height = min(tileRows, K - m);
          const from = a + ((<usize>m) << 2);
          if (offsets == 0) packAcross(from + line, stride, height, tileRows, depth, panelA);
          else packListed(from, stride, list, divisor, height, tileRows, depth, panelA);
          // tiles that lie below the diagonal are left out
          const start = triangle ? max(nb, (m / tileColumns) * tileColumns) : nb;
          for (let n = start; n < end; n += tileColumns) {
            const panel = block + <usize>((n - nb) / tileColumns) * panelB;
            const out = c + <usize>m * strideC + ((<usize>n) << 2);
            if (height == tileRows && n + tileColumns <= end) {
              tileF32(depth, panelA, panel, out, strideC, true);
            } else {
              tileF32(depth, panelA, panel, tile, 32, false);
              storeEdge(tile, out, strideC, height, min(tileColumns, end - n), true);
            }
          }
        }
      }
    }
  }
}
