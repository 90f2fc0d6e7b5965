// Transposes of packed matrices: codes of 4, 8 or 16 bits and their scales moved to mirrored places.
//
// Threads take bands of 32 columns of x, which are rows of y; within a band x is read along its rows, so that every
// cache line that is read is used whole.
//
// Words: codes of x, of y, matrices, rows, columns, bits, bytes of a row of x, of a row of y; scales of x, of y, their
// matrices, rows, columns, bytes each; tensor scales of x, of y.

import { address, word } from '../common/args';
import { shareEnd, shareStart } from '../common/share';

const band: i32 = 32;

export function transposePacked(args: usize, thread: i32, threads: i32): void {
  const matrices = word(args, 2);
  const rows = word(args, 3);
  const columns = word(args, 4);
  const bits = word(args, 5);
  const fromRow = word(args, 6);
  const toRow = word(args, 7);
  for (let i = 0; i < matrices; i++) {
    const from = address(args, 0) + <usize>i * <usize>rows * <usize>fromRow;
    const to = address(args, 1) + <usize>i * <usize>columns * <usize>toRow;
    const end = shareEnd(columns, band, thread, threads);
    for (let c = shareStart(columns, band, thread, threads); c < end; c += band) {
      const width = min(band, end - c);
      if (bits == 4) moveNibbles(from, to, rows, c, width, fromRow, toRow);
      else moveBytes(from, to, rows, c, c + width, bits >> 3, fromRow, toRow);
    }
  }
  if (thread != 0) return;
  store<f32>(address(args, 15), load<f32>(address(args, 14)));
  const size = word(args, 13);
  const gridRows = word(args, 11);
  const gridColumns = word(args, 12);
  const bytes = gridRows * gridColumns * size;
  for (let i = 0; i < word(args, 10); i++) {
    const at = <usize>i * <usize>bytes;
    moveBytes(address(args, 8) + at, address(args, 9) + at, gridRows, 0, gridColumns, size, gridColumns * size, gridRows * size);
  }
}

/** Elements of 1, 2 or 4 bytes of columns `first` … `end` − 1. */
function moveBytes(
  from: usize,
  to: usize,
  rows: i32,
  first: i32,
  end: i32,
  size: i32,
  fromRow: i32,
  toRow: i32,
): void {
  let r = 0;
  if (size == 2 && (end - first) % 8 == 0)
    for (; r + 4 <= rows; r += 4)
      for (let c = first; c < end; c += 8)
        moveHalves(
          from + <usize>r * <usize>fromRow + <usize>(2 * c),
          to + <usize>c * <usize>toRow + <usize>(2 * r),
          fromRow,
          toRow,
        );
  for (; r < rows; r++) {
    let source = from + <usize>r * <usize>fromRow + <usize>(first * size);
    let target = to + <usize>first * <usize>toRow + <usize>(r * size);
    for (let c = first; c < end; c++) {
      if (size == 1) store<u8>(target, load<u8>(source));
      else if (size == 2) store<u16>(target, load<u16>(source));
      else store<u32>(target, load<u32>(source));
      source += size;
      target += toRow;
    }
  }
}

/** Elements of 2 bytes: 4 rows and 8 columns of x, so that a row of y takes 8 bytes at once. */
// @ts-ignore: decorator
@inline
function moveHalves(source: usize, target: usize, fromRow: i32, toRow: i32): void {
  const a = v128.load(source);
  const b = v128.load(source + <usize>fromRow);
  const c = v128.load(source + <usize>(2 * fromRow));
  const d = v128.load(source + <usize>(3 * fromRow));
  // lanes a0 b0 a1 b1 …, then a0 b0 c0 d0 a1 b1 c1 d1 …
  const lowAb = v128.shuffle<i16>(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
  const highAb = v128.shuffle<i16>(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
  const lowCd = v128.shuffle<i16>(c, d, 0, 8, 1, 9, 2, 10, 3, 11);
  const highCd = v128.shuffle<i16>(c, d, 4, 12, 5, 13, 6, 14, 7, 15);
  storeColumns(target, toRow, v128.shuffle<i32>(lowAb, lowCd, 0, 4, 1, 5));
  storeColumns(target + <usize>(2 * toRow), toRow, v128.shuffle<i32>(lowAb, lowCd, 2, 6, 3, 7));
  storeColumns(target + <usize>(4 * toRow), toRow, v128.shuffle<i32>(highAb, highCd, 0, 4, 1, 5));
  storeColumns(target + <usize>(6 * toRow), toRow, v128.shuffle<i32>(highAb, highCd, 2, 6, 3, 7));
}

// @ts-ignore: decorator
@inline
function storeColumns(target: usize, toRow: i32, two: v128): void {
  v128.store64_lane(target, two, 0);
  v128.store64_lane(target + <usize>toRow, two, 1);
}

/** Nibbles of columns `first` (even) on: two rows of x make one byte in each row of y. */
function moveNibbles(from: usize, to: usize, rows: i32, first: i32, width: i32, fromRow: i32, toRow: i32): void {
  for (let r = 0; r < rows; r += 2) {
    const above = from + <usize>r * <usize>fromRow + <usize>(first >> 1);
    let target = to + <usize>first * <usize>toRow + <usize>(r >> 1);
    for (let c = 0; c < width; c += 2) {
      const a = <u32>load<u8>(above + <usize>(c >> 1));
      const b: u32 = r + 1 < rows ? <u32>load<u8>(above + <usize>(fromRow + (c >> 1))) : 0;
      store<u8>(target, <u8>((a & 15) | (b << 4)));
      if (c + 1 < width) store<u8>(target + toRow, <u8>((a >> 4) | (b & 0xf0)));
      target += 2 * toRow;
    }
  }
}
