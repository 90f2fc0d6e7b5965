// Transposing a matrix of 32-bit elements: four by four in registers, sixteen rows of the result at a time, so that every
// cache line that is read is used whole.

import { at } from '../common/args';
import { shareEnd, shareStart } from '../common/share';

const band: i32 = 16;

/** to[r · toStride + c] = from[c · fromStride + r] for r < rows, c < columns; threads take bands of rows. */
export function transposeMatrix(
  from: usize,
  to: usize,
  rows: i32,
  columns: i32,
  fromStride: i32,
  toStride: i32,
  thread: i32,
  threads: i32,
): void {
  const end = shareEnd(rows, band, thread, threads);
  for (let first = shareStart(rows, band, thread, threads); first < end; first += band) {
    const height = min(band, end - first);
    const whole = height & ~3;
    let c = 0;
    for (; c + 4 <= columns; c += 4)
      for (let r = first; r < first + whole; r += 4) square(at(from, c * fromStride + r), at(to, r * toStride + c), fromStride, toStride);
    for (let r = first; r < first + whole; r++) copyElements(from, to, r, c, columns, fromStride, toStride);
    for (let r = first + whole; r < first + height; r++) copyElements(from, to, r, 0, columns, fromStride, toStride);
  }
}

// @ts-ignore: decorator
@inline
function square(from: usize, to: usize, fromStride: i32, toStride: i32): void {
  const a = v128.load(from);
  const b = v128.load(at(from, fromStride));
  const c = v128.load(at(from, 2 * fromStride));
  const d = v128.load(at(from, 3 * fromStride));
  const ab = v128.shuffle<i32>(a, b, 0, 4, 1, 5);
  const cd = v128.shuffle<i32>(c, d, 0, 4, 1, 5);
  const ab2 = v128.shuffle<i32>(a, b, 2, 6, 3, 7);
  const cd2 = v128.shuffle<i32>(c, d, 2, 6, 3, 7);
  v128.store(to, v128.shuffle<i64>(ab, cd, 0, 2));
  v128.store(at(to, toStride), v128.shuffle<i64>(ab, cd, 1, 3));
  v128.store(at(to, 2 * toStride), v128.shuffle<i64>(ab2, cd2, 0, 2));
  v128.store(at(to, 3 * toStride), v128.shuffle<i64>(ab2, cd2, 1, 3));
}

// @ts-ignore: decorator
@inline
function copyElements(from: usize, to: usize, r: i32, first: i32, columns: i32, fromStride: i32, toStride: i32): void {
  for (let c = first; c < columns; c++) store<i32>(at(to, r * toStride + c), load<i32>(at(from, c * fromStride + r)));
}
