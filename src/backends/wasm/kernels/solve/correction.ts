// GPTAQ's correction P = strictly upper part of (D Uᵀ), times U, in f64 (arXiv 2504.02692; ptq-core 3.2).
//
// In reversed order (panels.ts) U is the lower triangle X, and both products stay lower:
//   T[i, j] = Σ_{k ≤ j} D[i, k] X[j, k] for j < i, 0 elsewhere;   P[i, j] = Σ_{j ≤ k < i} T[i, k] X[k, j].
// Row i of a result needs row i of its left operand only, so both take the place of D, 96 rows at a time through a buffer.

import { block, blockB, multiplyLines, packAcrossB, packLinesB, threadScratchF64 } from './cholesky';
import { cell, panelDepth } from './tile-f64';

const rowsAtOnce: i32 = 96;

/** Bytes of the row buffer of one thread. */
// @ts-ignore: decorator
@inline
function bufferBytes(stride: usize): usize {
  return <usize>rowsAtOnce * stride;
}

/** Rows r0 … r1 of T or P into `buffer`, whose row 0 is row r0. */
function multiplyRows(
  across: bool,
  d: usize,
  x: usize,
  stride: usize,
  r0: i32,
  r1: i32,
  buffer: usize,
  scratch: usize,
): void {
  const packed = blockB(scratch);
  const rows = d + <usize>r0 * stride;
  for (let n = 0; n < r1; n += block) {
    const end = min(n + block, r1);
    const from = across ? n : 0;
    const to = across ? r1 : end;
    for (let k = from; k < to; k += panelDepth) {
      const depth = min(panelDepth, to - k);
      if (across) packAcrossB(x, stride, n, end, k, depth, packed);
      else packLinesB(x, stride, n, end, k, depth, packed);
      multiplyLines(rows, stride, 0, r1 - r0, k, depth, packed, buffer, stride, n, end, 1, k > from, scratch);
    }
  }
  for (let i = r0; i < r1; i++) {
    const row = cell(d, stride, i, 0);
    memory.copy(row, buffer + <usize>(i - r0) * stride, <usize>i << 3);
    memory.fill(row + (<usize>i << 3), 0, stride - (<usize>i << 3));
  }
}

/** D becomes P; `x` is M⁻¹ with zeros above the diagonal in its diagonal blocks. Buffers: 96 rows a thread. */
export function correctLower(
  d: usize,
  x: usize,
  stride: usize,
  size: i32,
  buffers: usize,
  scratches: usize,
  thread: i32,
  threads: i32,
): void {
  const scratch = scratches + <usize>thread * threadScratchF64;
  const buffer = buffers + <usize>thread * bufferBytes(stride);
  for (let r = thread * rowsAtOnce; r < size; r += threads * rowsAtOnce) {
    multiplyRows(false, d, x, stride, r, min(r + rowsAtOnce, size), buffer, scratch);
    multiplyRows(true, d, x, stride, r, min(r + rowsAtOnce, size), buffer, scratch);
  }
}
