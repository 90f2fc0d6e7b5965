// Matrix products of two packed operands through 8-bit integer dot products.
//
//   C[m, n] = Σ_blocks (f32(Σ_k∈block a·b) · scaleB[n, block]) · scaleA[m, block]  · rowB[n] · rowA[m] · tsA · tsB
//
// a and b are the integers of the codes (FP4: value × 2; zero points subtracted), exact; the units of the element
// types are powers of two and go into the scales. A block is what the finer of the two operands puts under one scale;
// whole rows are cut into blocks of 2^15. A scale that holds for a whole row is taken out of the blocks (row…), and is
// 1 otherwise. The f32 sum runs over the blocks in order, or over runs of blocks whose own sums are made first
// (matmul-int-fold.ts), so the result depends neither on threads nor on where an element lies in a tile; tile and proof
// of exactness: matmul-int-tile.ts.
//
// packInt turns A into panels of six rows, once; matmulInt then decodes blocks of columns of B into scratch of the
// thread, each column once, and runs over all panels of A.
//
// Words of both: rows (of A, C), columns (0 in packInt), K, block; codes, starts, scales; scratch, scratch bytes a
// thread; offset of B; blocks a run; largest shift of this operand; 1 when its scales hold for rows; first row of this
// operand; then of matmulInt: c, row bytes, columns a block, 1 when exact, address of A's tensor scale (in
// packInt 0); word 19: the plan's laneLimit; then the source description of the operand.
// With a laneLimit above 0 a host without an exact 8-bit dot product sums in 16 bits, with panels of twelve columns
// (matmul-int-narrow.ts); its complement makes every host do so (for tests).
// An offset of −1 stands for 8-bit integers: this host decides; −2 takes the form that every host can (for tests).
// A panel has, in starts, a line of eight words a block (with runs: and one for the sum of each run, its word 6 tells
// whether the run is folded); in scales a line a block and one for the rows. Panels of B add their flags to scales.

import { shareEnd, shareStart } from '../common/share.ts';
import { sourceTensorScale } from './matmul-decode.ts';
import { foldRun } from './matmul-int-fold.ts';
import { addBytes, decodeLine, packScales, resolveLimit, resolveOffset, sumBytes } from './matmul-int-lines.ts';
import { narrowColumns, narrowLine, narrowStarts, tileNarrow } from './matmul-int-narrow.ts';
import {
  clearTile,
  dotPortable,
  lineBytes,
  tileExact,
  tileFolded,
  tilePortable,
  tileRounded,
  wideDot,
} from './matmul-int-tile.ts';

import { packLines12, packLines6, packLines8 } from './matmul-panels.ts';

const sourceAt: usize = 80;
/** Place in A's line of row scales that holds 1 when all of them are 1. */
const plainAt: usize = 28;

export function packInt(args: usize, thread: i32, threads: i32): void {
  const rows = load<i32>(args);
  const depth = load<i32>(args + 8);
  const block = load<i32>(args + 12);
  const lines = load<usize>(args + 28) + <usize>thread * load<usize>(args + 32);
  const offset = resolveOffset(load<i32>(args + 36));
  const fold = load<i32>(args + 40);
  const shift = load<i32>(args + 44);
  const perRow = load<i32>(args + 48) != 0;
  const row0 = load<i32>(args + 52);
  const limit = resolveLimit(load<i32>(args + 76));
  const d = args + sourceAt;
  const padded = (block + 3) & ~3;
  const blocks = (depth + block - 1) / block;
  const lineLength = <usize>blocks * <usize>padded;
  const startLines = fold > 1 ? blocks + blocks / fold : blocks;
  const end = shareEnd(rows, 6, thread, threads);
  for (let m = shareStart(rows, 6, thread, threads); m < end; m += 6) {
    const panel = <usize>(m / 6);
    const count = min(6, rows - m);
    let starts = load<usize>(args + 20) + panel * <usize>startLines * lineBytes;
    const scales = load<usize>(args + 24) + panel * <usize>(blocks + 1) * lineBytes;
    memory.fill(starts, 0, <usize>startLines * lineBytes);
    memory.fill(scales, 0, <usize>(blocks + 1) * lineBytes);
    for (let i = 0; i < count; i++) {
      decodeLine(d, row0 + m + i, depth, block, padded, 0, lines + <usize>i * lineLength);
      packScales(d, row0 + m + i, blocks, block, perRow, i, scales, lineBytes);
    }
    store<f32>(scales + <usize>blocks * lineBytes, perRow ? 0 : 1, plainAt);
    for (let g = 0; g < blocks; g += fold) {
      const run = lines + <usize>g * <usize>padded;
      const total = starts + <usize>fold * lineBytes;
      if (fold > 1) {
        const folded = foldRun(run, lineLength, count, scales + <usize>g * lineBytes, lineBytes, fold, padded, shift, limit);
        store<i32>(total + 24, folded ? 1 : 0);
      }
      if (limit > 0) {
        narrowStarts(run, lineLength, count, fold, padded, offset, starts);
        starts = total + lineBytes;
        continue;
      }
      for (let f = 0; f < fold; f++) {
        for (let i = 0; i < count && offset != 0; i++) {
          const lane = (<usize>i) << 2;
          const start = -offset * sumBytes(run + <usize>i * lineLength + <usize>(f * padded), padded);
          store<i32>(starts + lane, start);
          if (fold > 1) store<i32>(total + lane, load<i32>(total + lane) + start);
        }
        starts += lineBytes;
      }
      if (fold > 1) starts += lineBytes;
    }
    packLines6(lines, lineLength, count, <i32>(lineLength >> 2), load<usize>(args + 16) + panel * 6 * lineLength);
  }
}

/** Tile (rows of `width` bytes) × row scales of both sides × tensor scales to C. */
function storeTile(
  tile: usize,
  width: usize,
  rowsA: usize,
  rowsB: usize,
  factor: f32,
  c: usize,
  stride: usize,
  rows: i32,
  columns: i32,
): void {
  const f = f32x4.splat(factor);
  const bytes = (<usize>columns) << 2;
  for (let i = 0; i < rows; i++) {
    const a = v128.load32_splat(rowsA);
    const to = bytes == width ? c : tile;
    for (let at: usize = 0; at < width; at += 16)
      v128.store(to + at, f32x4.mul(f32x4.mul(f32x4.mul(v128.load(tile + at), v128.load(rowsB + at)), a), f));
    if (bytes != width) memory.copy(c, tile, bytes);
    rowsA += 4;
    tile += width;
    c += stride;
  }
}

export function matmulInt(args: usize, thread: i32, threads: i32): void {
  const rows = load<i32>(args);
  const columns = load<i32>(args + 4);
  const depth = load<i32>(args + 8);
  const block = load<i32>(args + 12);
  const codesA = load<usize>(args + 16);
  const startsA = load<usize>(args + 20);
  const scalesA = load<usize>(args + 24);
  const own = load<usize>(args + 28) + <usize>thread * load<usize>(args + 32);
  const wish = load<i32>(args + 36);
  const fold = load<i32>(args + 40);
  const shift = load<i32>(args + 44);
  const perRow = load<i32>(args + 48) != 0;
  const row0 = load<i32>(args + 52);
  const c = load<usize>(args + 56);
  const strideC = load<usize>(args + 60);
  const blockColumns = load<i32>(args + 64);
  const exact = load<i32>(args + 68) != 0;
  const d = args + sourceAt;
  const factor = load<f32>(load<usize>(args + 72)) * sourceTensorScale(d);
  const offset = resolveOffset(wish);
  const narrow = resolveLimit(load<i32>(args + 76)) > 0;
  const portable = wish == -2 || (wish == -1 && wideDot() == dotPortable);
  const padded = (block + 3) & ~3;
  const steps = padded >> 2;
  const blocks = (depth + block - 1) / block;
  const runs = blocks / fold;
  const startLines = fold > 1 ? blocks + runs : blocks;
  const lineLength = <usize>blocks * <usize>padded;
  // columns of a panel, and the bytes of its lines of scales
  const width = narrow ? narrowColumns : 8;
  const scaleLine = narrow ? narrowLine : lineBytes;
  const scaleBytes = <usize>(blocks + 1) * scaleLine + <usize>((runs + 7) / 8) * lineBytes;
  const tile = own;
  const sum = own + 320;
  const lines = own + 640;
  const scales = lines + 12 * lineLength;
  const panels = scales + <usize>(blockColumns / width) * scaleBytes;

  const byColumns = columns >= rows || columns >= 64 * threads;
  const n0 = byColumns ? shareStart(columns, width, thread, threads) : 0;
  const n1 = byColumns ? shareEnd(columns, width, thread, threads) : columns;
  const m0 = byColumns ? 0 : shareStart(rows, 6, thread, threads);
  const m1 = byColumns ? rows : shareEnd(rows, 6, thread, threads);
  if (m0 >= m1) return;
  for (let nb = n0; nb < n1; nb += blockColumns) {
    const end = min(nb + blockColumns, n1);
    let to = scales;
    let codesB = panels;
    for (let n = nb; n < end; n += width) {
      const count = min(width, end - n);
      for (let i = 0; i < count; i++) {
        decodeLine(d, row0 + n + i, depth, block, padded, fold > 1 ? 0 : offset, lines + <usize>i * lineLength);
        packScales(d, row0 + n + i, blocks, block, perRow, i, to, scaleLine);
      }
      if (fold > 1) {
        const flags = to + <usize>(blocks + 1) * scaleLine;
        for (let r = 0; r < runs; r++) {
          const g = <usize>(r * fold);
          const run = lines + g * <usize>padded;
          const folded = foldRun(run, lineLength, count, to + g * scaleLine, scaleLine, fold, padded, shift, 0);
          store<i32>(flags + ((<usize>r) << 2), folded ? 1 : 0);
        }
        for (let i = 0; i < count; i++) addBytes(lines + <usize>i * lineLength, <i32>lineLength, offset);
      }
      if (narrow) packLines12(lines, lineLength, count, <i32>(lineLength >> 2), codesB);
      else packLines8(lines, lineLength, count, <i32>(lineLength >> 2), codesB);
      to += scaleBytes;
      codesB += <usize>width * lineLength;
    }
    for (let m = m0; m < m1; m += 6) {
      const panelA = <usize>(m / 6);
      const count = min(6, rows - m);
      const a = codesA + panelA * 6 * lineLength;
      const starts = startsA + panelA * <usize>startLines * lineBytes;
      const sa = scalesA + panelA * <usize>(blocks + 1) * lineBytes;
      const rowsA = sa + <usize>blocks * lineBytes;
      // full tiles are summed in C where no factor is left for the end
      const direct = fold > 1 && !perRow && load<f32>(rowsA, plainAt) == 1 && factor == 1;
      let sb = scales;
      let b = panels;
      for (let n = nb; n < end; n += width) {
        const rowsB = sb + <usize>blocks * scaleLine;
        const flags = rowsB + scaleLine;
        const countB = min(width, end - n);
        const out = c + <usize>m * strideC + ((<usize>n) << 2);
        const here = direct && count == 6 && countB == width;
        const to = here ? out : tile;
        const stride = here ? strideC : <usize>width << 2;
        clearTile(to, <usize>width << 2, stride);
        if (narrow) tileNarrow(runs, fold, steps, a, starts, sa, b, sb, flags, to, stride, sum);
        else if (fold > 1) tileFolded(runs, fold, steps, a, starts, sa, b, sb, flags, to, stride, sum);
        else if (portable) tilePortable(blocks, steps, a, sa, b, sb, tile);
        else if (exact) tileExact(blocks, steps, a, starts, sa, b, sb, tile);
        else tileRounded(blocks, steps, a, starts, sa, b, sb, tile);
        if (!here) storeTile(tile, stride, rowsA, rowsB, factor, out, strideC, count, countB);
        sb += scaleBytes;
        b += <usize>width * lineLength;
      }
    }
  }
}
