// M⁻¹ of a symmetric positive definite A = M Mᵀ (M lower), in place, in f64, by all threads.
//
// Both parts go over blocks of 128 with the products of tile-f64.ts (Golub and Van Loan, Matrix Computations, 4.2).
// factorLower, block column by block column, left-looking:
//   A[i, b] −= M[i, 0…b) M[b, 0…b)ᵀ for rows i ≥ b;   M[b, b] by one thread, replaced by its inverse D;   M[i, b] = A[i, b] Dᵀ
// invertLower, block row by block row downwards:  X[b, b] = D,  X[b, j] = (−D M[b, :]) X[:, j] for j < b.
// Only the lower triangle is read; afterwards diagonal blocks have zeros above the diagonal.
// Scratch: threadScratchF64 bytes a thread; invertLower also shares `rows`, 132 doubles a column.

import { barrier } from '../common/barrier';
import { shareEnd, shareStart } from '../common/share';
import {
  cell,
  packAcross4,
  packLines4,
  packLines6,
  panelDepth,
  stepA,
  stepB,
  tileAt,
  tileColumns,
  tileF64,
  tileRows,
} from './tile-f64';

export const block: i32 = 128;
/** A panel of A, a block of B (256 × 128) and a tile. */
const panelBytesA: usize = 256 * 48;
const blockBytesB: usize = 256 * 128 * 8;
const spareBytes: usize = 192;
export const threadScratchF64: usize = panelBytesA + blockBytesB + spareBytes;

// @ts-ignore: decorator
@inline
export function blockB(scratch: usize): usize {
  return scratch + panelBytesA;
}

// @ts-ignore: decorator
@inline
export function spareTile(scratch: usize): usize {
  return scratch + panelBytesA + blockBytesB;
}

/** Rows m0 … m1, columns of `columns` tiles from n0 to n1 of C (+)= sign · A · (packed block of B); A packed here. */
// @ts-ignore: decorator
@inline
export function multiplyLines(
  a: usize,
  strideA: usize,
  m0: i32,
  m1: i32,
  k: i32,
  depth: i32,
  packedB: usize,
  c: usize,
  strideC: usize,
  n0: i32,
  n1: i32,
  sign: f64,
  accumulate: bool,
  scratch: usize,
): void {
  for (let m = m0; m < m1; m += tileRows) {
    packLines6(cell(a, strideA, m, k), strideA, m1 - m, depth, scratch);
    let b = packedB;
    for (let n = n0; n < n1; n += tileColumns, b += <usize>depth * stepB) {
      tileAt(depth, scratch, b, cell(c, strideC, m, n), strideC, m1 - m, n1 - n, sign, accumulate, spareTile(scratch));
    }
  }
}

/** Lines n0 … n1 of B along k, as a packed block. */
export function packLinesB(b: usize, stride: usize, n0: i32, n1: i32, k: i32, depth: i32, to: usize): void {
  for (let n = n0; n < n1; n += tileColumns, to += <usize>depth * stepB)
    packLines4(cell(b, stride, n, k), stride, n1 - n, depth, to);
}

/** Columns n0 … n1 of rows k … of B, as a packed block. */
export function packAcrossB(b: usize, stride: usize, n0: i32, n1: i32, k: i32, depth: i32, to: usize): void {
  for (let n = n0; n < n1; n += tileColumns, to += <usize>depth * stepB)
    packAcross4(cell(b, stride, k, n), stride, n1 - n, depth, to);
}

/**
 * Factors the diagonal block (rows and columns from … to) and replaces it by the inverse of its factor. Returns −1, or
 * the row whose pivot is not above `floors` times its original diagonal entry, which stands in the strict upper part.
 */
function invertDiagonal(a: usize, stride: usize, from: i32, to: i32, original: usize, floor: f64): i32 {
  for (let i = from; i < to; i++) {
    const row = cell(a, stride, i, 0);
    for (let j = from; j <= i; j++) {
      const other = cell(a, stride, j, 0);
      let sum = load<f64>(row + (<usize>j << 3));
      for (let k = from; k < j; k++) sum -= load<f64>(row + (<usize>k << 3)) * load<f64>(other + (<usize>k << 3));
      if (i == j) {
        if (!(sum > floor * load<f64>(original + (<usize>i << 3))) || sum == Infinity) return i;
        store<f64>(row + (<usize>j << 3), Math.sqrt(sum));
      } else {
        store<f64>(row + (<usize>j << 3), sum / load<f64>(other + (<usize>j << 3)));
      }
    }
  }
  // X = M⁻¹ row by row: row i of M is read before X takes its place
  for (let i = from; i < to; i++) {
    const row = cell(a, stride, i, 0);
    const inverse = 1 / load<f64>(row + (<usize>i << 3));
    for (let j = from; j < i; j++) {
      let sum: f64 = 0;
      for (let k = j; k < i; k++) sum += load<f64>(row + (<usize>k << 3)) * load<f64>(cell(a, stride, k, j));
      // column j of row i is needed by columns before j only through k = j, which is past
      store<f64>(row + (<usize>j << 3), -sum * inverse);
    }
    store<f64>(row + (<usize>i << 3), inverse);
    for (let j = i + 1; j < to; j++) store<f64>(row + (<usize>j << 3), 0);
  }
  return -1;
}

/**
 * The factor M of A, diagonal blocks inverted. `diagonal` has room for `size` doubles; `status` gets −1 or the row of the
 * first pivot that is not above `floor` times its diagonal entry.
 */
export function factorLower(
  a: usize,
  stride: usize,
  size: i32,
  diagonal: usize,
  floor: f64,
  status: usize,
  scratches: usize,
  thread: i32,
  threads: i32,
): void {
  const scratch = scratches + <usize>thread * threadScratchF64;
  const packed = blockB(scratch);
  if (thread == 0) {
    store<i32>(status, -1);
    for (let i = 0; i < size; i++) store<f64>(diagonal + (<usize>i << 3), load<f64>(cell(a, stride, i, i)));
  }
  for (let c0 = 0; c0 < size; c0 += block) {
    const c1 = min(c0 + block, size);
    const first = c0 + shareStart(size - c0, tileRows, thread, threads);
    const last = c0 + shareEnd(size - c0, tileRows, thread, threads);
    for (let k = 0; k < c0; k += panelDepth) {
      const depth = min(panelDepth, c0 - k);
      packLinesB(a, stride, c0, c1, k, depth, packed);
      multiplyLines(a, stride, first, last, k, depth, packed, a, stride, c0, c1, -1, true, scratch);
    }
    barrier(thread, threads);
    if (thread == 0) store<i32>(status, invertDiagonal(a, stride, c0, c1, diagonal, floor));
    barrier(thread, threads);
    if (load<i32>(status) >= 0) return;
    // in place: a panel of six rows is packed before its products are stored
    packLinesB(a, stride, c0, c1, c0, c1 - c0, packed);
    const below = c1 + shareStart(size - c1, tileRows, thread, threads);
    const end = c1 + shareEnd(size - c1, tileRows, thread, threads);
    multiplyLines(a, stride, below, end, c0, c1 - c0, packed, a, stride, c0, c1, 1, false, scratch);
    barrier(thread, threads);
  }
}

/** Bytes of `rows` of invertLower a column: 22 panels of six. */
export const invertRowBytes: usize = 22 * 48;

const columnsAtOnce: i32 = 64;

/** M⁻¹ from what factorLower left. */
export function invertLower(
  a: usize,
  stride: usize,
  size: i32,
  rows: usize,
  scratches: usize,
  thread: i32,
  threads: i32,
): void {
  const scratch = scratches + <usize>thread * threadScratchF64;
  const packed = blockB(scratch);
  const spare = spareTile(scratch);
  const panelBytes = <usize>size * stepA;
  for (let c0 = block; c0 < size; c0 += block) {
    const c1 = min(c0 + block, size);
    const height = c1 - c0;
    // −D · M[b, 0…b), into panels [row panel][k][6], column by column of four
    const first = shareStart(c0, tileColumns, thread, threads);
    const last = shareEnd(c0, tileColumns, thread, threads);
    for (let n = first; n < last; n += tileColumns) {
      const columns = last - n;
      packAcross4(cell(a, stride, c0, n), stride, columns, height, packed);
      for (let m = 0; m < height; m += tileRows) {
        packLines6(cell(a, stride, c0 + m, c0), stride, height - m, height, scratch);
        tileF64(height, scratch, packed, spare, 32, -1, false);
        const to = rows + <usize>(m / tileRows) * panelBytes + <usize>n * stepA;
        for (let j = 0; j < min(columns, tileColumns); j++) {
          for (let i = 0; i < tileRows; i++)
            store<f64>(to + <usize>j * stepA + (<usize>i << 3), load<f64>(cell(spare, 32, i, j)));
        }
      }
    }
    barrier(thread, threads);
    // later columns have fewer rows above them: threads take them in turn
    for (let n = thread * columnsAtOnce; n < c0; n += threads * columnsAtOnce) {
      const end = min(n + columnsAtOnce, c0);
      for (let k = n; k < c0; k += panelDepth) {
        const depth = min(panelDepth, c0 - k);
        packAcrossB(a, stride, n, end, k, depth, packed);
        for (let m = 0; m < height; m += tileRows) {
          const from = rows + <usize>(m / tileRows) * panelBytes + <usize>k * stepA;
          let b = packed;
          for (let j = n; j < end; j += tileColumns, b += <usize>depth * stepB) {
            tileAt(depth, from, b, cell(a, stride, c0 + m, j), stride, height - m, end - j, 1, k > n, spare);
          }
        }
      }
    }
    barrier(thread, threads);
  }
}
