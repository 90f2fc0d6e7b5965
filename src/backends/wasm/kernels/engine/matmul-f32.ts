// Matrix products in f32: C[b] = A[b] · B[b], A dense in either orientation, B dense in either or packed.
//
// Blocked as in Goto and van de Geijn (ACM TOMS 34(3), 2008): depth blocks of 512; a block of B, 512 × 256, is packed
// (and decoded) into scratch of the thread, which stays in the second-level cache; each panel of six rows of A is
// packed into the first level and multiplied with every panel of the block. Every thread owns whole columns of C (or
// rows where there are few columns), so that nothing is shared and the order of summation never depends on `threads`.
// Up to four rows of A with B stored along k (token generation): plain dot products of decoded rows.
//
// Words: batch, M, N, K; a, row bytes, 1 when stored [K, M], batch bytes; b, row bytes, batch step (bytes, or rows of
// a packed matrix); c, row bytes, batch bytes; scratch; 0; source description of B (matmul-decode.ts).
// Scratch: matmulThreadScratch bytes a thread.

import { decodeRow, sourceAcross, sourceAlong, sourceKind } from './matmul-decode.ts';
import { packAcross, packLines6, packLines8 } from './matmul-panels.ts';
import { dotF32, panelDepth, storeEdge, tileColumns, tileF32, tileRows } from './matmul-tile.ts';
import { shareEnd, shareStart } from '../common/share.ts';

const blockColumns: i32 = 256;
const panelBytesA: usize = 6 * 512 * 4;
const linesBytes: usize = 8 * 512 * 4;
const tileBytes: usize = 256;
const blockBytes: usize = 256 * 512 * 4;
export const threadScratch: usize = panelBytesA + linesBytes + tileBytes + blockBytes;
export const smallRows: i32 = 4;

/** Columns n … n+7 (as many as exist) and `depth` values from k of B into one panel. */
function packColumns(
  source: usize,
  b: usize,
  stride: usize,
  row: i32,
  n: i32,
  columns: i32,
  k: i32,
  depth: i32,
  lines: usize,
  dst: usize,
): void {
  const kind = sourceKind(source);
  if (kind == sourceAcross) {
    packAcross(b + <usize>k * stride + ((<usize>n) << 2), stride, columns, tileColumns, depth, dst);
  } else if (kind == sourceAlong) {
    packLines8(b + <usize>n * stride + ((<usize>k) << 2), stride, columns, depth, dst);
  } else {
    const step = (<usize>panelDepth) << 2;
    for (let i = 0; i < columns; i++) decodeRow(source, row + n + i, k, depth, lines + <usize>i * step);
    packLines8(lines, step, columns, depth, dst);
  }
}

/** Stores a tile row by row where `list` sends the rows. */
function scatter(tile: usize, c: usize, stride: usize, list: usize, rows: i32, columns: i32, accumulate: bool): void {
  for (let i = 0; i < rows; i++)
    storeEdge(tile + ((<usize>i) << 5), c + listed(list, i, 1) * stride, 0, 1, columns, accumulate);
}

/** Entry i of a row list: the row itself where there is no list. */
// @ts-ignore: decorator
@inline
function listed(list: usize, i: i32, divisor: i32): usize {
  return list == 0 ? <usize>i : <usize>(load<i32>(list + ((<usize>i) << 2)) / divisor);
}

/**
 * Rows m0 … m1−1 and columns n0 … n1−1 of one product. With a row list, row i of the product reads row list[i] /
 * divisor of A and writes row list[i] of C. With `add` the product is added to what C holds.
 */
export function product(
  args: usize,
  a: usize,
  b: usize,
  row: i32,
  c: usize,
  m0: i32,
  m1: i32,
  n0: i32,
  n1: i32,
  own: usize,
  list: usize,
  divisor: i32,
  add: bool,
): void {
  const depthAll = load<i32>(args + 12);
  const strideA = load<usize>(args + 20);
  const acrossA = load<i32>(args + 24) != 0;
  const strideB = load<usize>(args + 36);
  const strideC = load<usize>(args + 48);
  const source = args + 64;
  const panelA = own;
  const lines = own + panelBytesA;
  const tile = lines + linesBytes;
  const block = tile + tileBytes;
  for (let k = 0; k < depthAll; k += panelDepth) {
    const depth = min(panelDepth, depthAll - k);
    const panelB = (<usize>depth) << 5;
    const accumulate = add || k > 0;
    for (let nb = n0; nb < n1; nb += blockColumns) {
      const end = min(nb + blockColumns, n1);
      let to = block;
      for (let n = nb; n < end; n += tileColumns) {
        packColumns(source, b, strideB, row, n, min(tileColumns, end - n), k, depth, lines, to);
        to += panelB;
      }
      for (let m = m0; m < m1; m += tileRows) {
        const rows = min(tileRows, m1 - m);
        if (list != 0) {
          for (let i = 0; i < rows; i++) {
            const from = a + listed(list, m + i, divisor) * strideA + ((<usize>k) << 2);
            memory.copy(lines + <usize>(i * panelDepth * 4), from, (<usize>depth) << 2);
          }
          packLines6(lines, (<usize>panelDepth) << 2, rows, depth, panelA);
        } else if (acrossA) {
          packAcross(a + <usize>k * strideA + ((<usize>m) << 2), strideA, rows, tileRows, depth, panelA);
        } else {
          packLines6(a + <usize>m * strideA + ((<usize>k) << 2), strideA, rows, depth, panelA);
        }
        let from = block;
        let out = c + <usize>m * strideC + ((<usize>nb) << 2);
        for (let n = nb; n < end; n += tileColumns) {
          if (list != 0) {
            tileF32(depth, panelA, from, tile, 32, false);
            const to = c + ((<usize>n) << 2);
            const rowsTo = list + ((<usize>m) << 2);
            scatter(tile, to, strideC, rowsTo, rows, min(tileColumns, end - n), accumulate);
          } else if (rows == tileRows && n + tileColumns <= end) {
            tileF32(depth, panelA, from, out, strideC, accumulate);
          } else {
            tileF32(depth, panelA, from, tile, 32, false);
            storeEdge(tile, out, strideC, rows, min(tileColumns, end - n), accumulate);
          }
          from += panelB;
          out += 32;
        }
      }
    }
  }
}

/** Few rows: every weight row is decoded once (in pieces) and multiplied with all rows of A. */
export function fewRows(
  args: usize,
  a: usize,
  b: usize,
  row: i32,
  c: usize,
  rows: i32,
  n0: i32,
  n1: i32,
  own: usize,
  list: usize,
  divisor: i32,
): void {
  const depthAll = load<i32>(args + 12);
  const strideA = load<usize>(args + 20);
  const strideB = load<usize>(args + 36);
  const strideC = load<usize>(args + 48);
  const source = args + 64;
  const dense = sourceKind(source) == sourceAlong;
  const sums = own;
  const line = own + 64;
  for (let n = n0; n < n1; n++) {
    memory.fill(sums, 0, 64);
    for (let k = 0; k < depthAll; k += panelDepth) {
      const depth = min(panelDepth, depthAll - k);
      let w = line;
      if (dense) w = b + <usize>n * strideB + ((<usize>k) << 2);
      else decodeRow(source, row + n, k, depth, line);
      for (let m = 0; m < rows; m++)
        dotF32(a + listed(list, m, divisor) * strideA + ((<usize>k) << 2), w, depth, sums + ((<usize>m) << 4));
    }
    for (let m = 0; m < rows; m++) {
      const s = v128.load(sums + ((<usize>m) << 4));
      const sum =
        f32x4.extract_lane(s, 0) + f32x4.extract_lane(s, 1) + (f32x4.extract_lane(s, 2) + f32x4.extract_lane(s, 3));
      store<f32>(c + listed(list, m, 1) * strideC + ((<usize>n) << 2), sum);
    }
  }
}

export function matmulF32(args: usize, thread: i32, threads: i32): void {
  const batch = load<i32>(args);
  const rows = load<i32>(args + 4);
  const columns = load<i32>(args + 8);
  const stepA = load<usize>(args + 28);
  const stepB = load<usize>(args + 40);
  const stepC = load<usize>(args + 52);
  const own = load<usize>(args + 56) + <usize>thread * threadScratch;
  const kind = sourceKind(args + 64);
  const dense = kind == sourceAcross || kind == sourceAlong;
  const few = rows <= smallRows && load<i32>(args + 24) == 0 && kind != sourceAcross;
  let first = 0;
  let last = batch;
  let m0 = 0;
  let m1 = rows;
  let n0 = 0;
  let n1 = columns;
  if (batch >= 4 * threads || (columns <= tileColumns && rows <= tileRows)) {
    first = shareStart(batch, 1, thread, threads);
    last = shareEnd(batch, 1, thread, threads);
  } else if (few || columns >= 8 * tileColumns * threads || columns >= rows) {
    n0 = shareStart(columns, few ? 1 : tileColumns, thread, threads);
    n1 = shareEnd(columns, few ? 1 : tileColumns, thread, threads);
  } else {
    m0 = shareStart(rows, tileRows, thread, threads);
    m1 = shareEnd(rows, tileRows, thread, threads);
  }
  if (m0 >= m1 || n0 >= n1) return;
  for (let i = first; i < last; i++) {
    const a = load<usize>(args + 16) + <usize>i * stepA;
    const c = load<usize>(args + 44) + <usize>i * stepC;
    const b = dense ? load<usize>(args + 32) + <usize>i * stepB : 0;
    const row = dense ? 0 : <i32>(<usize>i * stepB);
    if (few) fewRows(args, a, b, row, c, rows, n0, n1, own, 0, 1);
    else product(args, a, b, row, c, m0, m1, n0, n1, own, 0, 1, false);
  }
}
