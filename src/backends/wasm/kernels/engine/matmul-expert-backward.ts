// Gradients of products with an expert chosen for every row, by the lists of expertSort.
//
// expertInputGradient: dx[slot] = dy[slot] · W_e for the slots of expert e, one product an expert; threads own columns.
// A packed expert is decoded first, all threads sharing its rows. Where slots share a row of x, addHeads sums them.
// expertWeightGradient: dW_e = Σ_slots dy[slot]ᵀ x[slot]; the slots of an expert are gathered into panels, 512 at a
// time. Threads own columns of every expert. An expert without slots gets zeros.
//
// Words of expertInputGradient: experts, M, K, list, dy, weight (dense; 0: packed), out [slots, K], decoded expert,
// scratch, scratch bytes of a thread, unused 10 to 15, then the source description of a packed weight.
// Words of expertWeightGradient: experts, M, K, list, dy, x, slots that share a row of x, out [E, M, K], scratch.
// Scratch of a thread: that of the matrix product, then the words of one product.

import { address, at, word } from '../common/args';
import { barrier } from '../common/barrier';
import { shareEnd, shareStart } from '../common/share';
import { decodeRow, sourceAcross } from './matmul-decode';
import { product, threadScratch } from './matmul-f32';
import { panelDepth, storeEdge, tileColumns, tileF32, tileRows } from './matmul-tile';

const blockColumns: i32 = 256;

export function expertInputGradient(args: usize, thread: i32, threads: i32): void {
  const experts = word(args, 0);
  const depth = word(args, 1);
  const columns = word(args, 2);
  const offsets = address(args, 3);
  const weight = address(args, 5);
  const own = address(args, 8) + <usize>thread * address(args, 9);
  const words = own + threadScratch;
  const list = offsets + ((<usize>(experts + 1)) << 2);
  const line = (<usize>columns) << 2;
  store<i32>(words, depth, 12);
  store<usize>(words, (<usize>depth) << 2, 20);
  store<i32>(words, 0, 24);
  store<usize>(words, line, 36);
  store<usize>(words, line, 48);
  store<i32>(words, sourceAcross, 64);
  const n0 = shareStart(columns, tileColumns, thread, threads);
  const n1 = shareEnd(columns, tileColumns, thread, threads);
  for (let e = 0; e < experts; e++) {
    const first = load<i32>(at(offsets, e));
    const rows = load<i32>(at(offsets, e + 1)) - first;
    if (rows == 0) continue;
    let b = weight + <usize>e * <usize>depth * line;
    if (weight == 0) {
      b = address(args, 7);
      const end = shareEnd(depth, 1, thread, threads);
      for (let i = shareStart(depth, 1, thread, threads); i < end; i++)
        decodeRow(args + 64, e * depth + i, 0, columns, b + <usize>i * line);
      barrier(thread, threads);
    }
    if (n0 < n1)
      product(words, address(args, 4), b, 0, address(args, 6), 0, rows, n0, n1, own, at(list, first), 1, false);
    if (weight == 0) barrier(thread, threads);
  }
}

/** `lines` neighbouring floats of each listed row (divided by `divisor`) into panels of `width`. */
function gather(
  from: usize,
  stride: usize,
  list: usize,
  divisor: i32,
  lines: i32,
  width: i32,
  depth: i32,
  dst: usize,
): void {
  for (let p = 0; p < depth; p++) {
    const src = from + <usize>(load<i32>(at(list, p)) / divisor) * stride;
    if (lines == width) {
      v128.store(dst, v128.load(src));
      if (width == 8) v128.store(dst, v128.load(src, 16), 16);
      else store<u64>(dst, load<u64>(src, 16), 16);
    } else for (let i = 0; i < width; i++) store<f32>(at(dst, i), i < lines ? load<f32>(at(src, i)) : 0);
    dst += (<usize>width) << 2;
  }
}

export function expertWeightGradient(args: usize, thread: i32, threads: i32): void {
  const experts = word(args, 0);
  const rows = word(args, 1);
  const columns = word(args, 2);
  const offsets = address(args, 3);
  const dy = address(args, 4);
  const x = address(args, 5);
  const divisor = word(args, 6);
  const panelA = address(args, 8) + <usize>thread * address(args, 9);
  const tile = panelA + <usize>(tileRows * panelDepth * 4);
  const block = tile + 256;
  const list = offsets + ((<usize>(experts + 1)) << 2);
  const lineA = (<usize>rows) << 2;
  const line = (<usize>columns) << 2;
  const first = shareStart(columns, tileColumns, thread, threads);
  const last = shareEnd(columns, tileColumns, thread, threads);
  if (first >= last) return;
  for (let e = 0; e < experts; e++) {
    const c = address(args, 7) + <usize>e * <usize>rows * line;
    const start = load<i32>(at(offsets, e));
    const slots = load<i32>(at(offsets, e + 1)) - start;
    if (slots == 0)
      for (let m = 0; m < rows; m++) memory.fill(at(c + <usize>m * line, first), 0, (<usize>(last - first)) << 2);
    for (let s = 0; s < slots; s += panelDepth) {
      const depth = min(panelDepth, slots - s);
      const listed = at(list, start + s);
      const panelB = (<usize>depth) << 5;
      for (let nb = first; nb < last; nb += blockColumns) {
        const end = min(nb + blockColumns, last);
        let to = block;
        for (let n = nb; n < end; n += tileColumns) {
          gather(at(x, n), line, listed, divisor, min(tileColumns, end - n), tileColumns, depth, to);
          to += panelB;
        }
        for (let m = 0; m < rows; m += tileRows) {
          const height = min(tileRows, rows - m);
          gather(at(dy, m), lineA, listed, 1, height, tileRows, depth, panelA);
          let from = block;
          for (let n = nb; n < end; n += tileColumns) {
            const out = at(c + <usize>m * line, n);
            if (height == tileRows && n + tileColumns <= end) tileF32(depth, panelA, from, out, line, s > 0);
            else {
              tileF32(depth, panelA, from, tile, 32, false);
              storeEdge(tile, out, line, height, min(tileColumns, end - n), s > 0);
            }
            from += panelB;
          }
        }
      }
    }
  }
}
