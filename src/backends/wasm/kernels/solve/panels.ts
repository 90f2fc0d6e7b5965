// Upper triangles in panels, and loading of dense matrices.
//
// A triangle T [K, K] is stored for products with T on the right: panel p holds columns 8p … 8p+7 as rows of eight
// floats, from row 0 to row 8p + 7, zeros below the diagonal and past column K. Panels follow each other.
// In f64 work the order of rows and columns is reversed, so that an upper triangle becomes a lower one: entry (i, j) of a
// triangle is entry (K−1−i, K−1−j) there. `positions[c]` is the reversed place of column c of the input.

import { shareEnd, shareStart } from '../common/share';
import { cell } from './tile-f64';

/** Bytes before panel p. */
// @ts-ignore: decorator
@inline
export function panelAt(p: i32): usize {
  return <usize>p * <usize>(p + 1) * 128;
}

/** Rows first … first+count of the upper triangle of a dense f32 matrix, at `source`, into panels; `diagonal` scales it. */
export function packTriangle(
  source: usize,
  first: i32,
  count: i32,
  size: i32,
  diagonal: f32,
  panels: usize,
  thread: i32,
  threads: i32,
): void {
  const count8 = (size + 7) >> 3;
  const end = first + shareEnd(count, 1, thread, threads);
  for (let i = first + shareStart(count, 1, thread, threads); i < end; i++) {
    const row = source + <usize>(i - first) * (<usize>size << 2);
    for (let p = i >> 3; p < count8; p++) {
      const to = panels + panelAt(p) + (<usize>i << 5);
      for (let c = 0; c < 8; c++) {
        const j = (p << 3) + c;
        const value = j < i || j >= size ? <f32>0 : load<f32>(row + (<usize>j << 2));
        store<f32>(to + (<usize>c << 2), j == i ? value * diagonal : value);
      }
    }
  }
}

/** Rows first … first+count of a dense f32 matrix: the triangle of what lies below the diagonal, transposed. */
export function packLower(
  source: usize,
  first: i32,
  count: i32,
  size: i32,
  panels: usize,
  thread: i32,
  threads: i32,
): void {
  const end = first + shareEnd(count, 1, thread, threads);
  for (let j = first + shareStart(count, 1, thread, threads); j < end; j++) {
    const row = source + <usize>(j - first) * (<usize>size << 2);
    const to = panels + panelAt(j >> 3) + (<usize>(j & 7) << 2);
    const rows = (j & ~7) + 8;
    for (let i = 0; i < rows; i++) store<f32>(to + (<usize>i << 5), i < j ? load<f32>(row + (<usize>i << 2)) : 0);
  }
}

/** Clears the last panel, whose rows and columns past K nothing else writes. */
export function clearLastPanel(size: i32, panels: usize): void {
  const p = ((size + 7) >> 3) - 1;
  memory.fill(panels + panelAt(p), 0, panelAt(p + 1) - panelAt(p));
}

/** Panels of the triangle that is the reversed lower triangle of a f64 matrix. */
export function storeTriangle(a: usize, stride: usize, size: i32, panels: usize, thread: i32, threads: i32): void {
  const count = (size + 7) >> 3;
  for (let p = thread; p < count; p += threads) {
    let to = panels + panelAt(p);
    for (let i = 0; i < (p << 3) + 8; i++) {
      for (let c = 0; c < 8; c++, to += 4) {
        const j = (p << 3) + c;
        const value = i <= j && j < size ? load<f64>(cell(a, stride, size - 1 - i, size - 1 - j)) : 0;
        store<f32>(to, <f32>value);
      }
    }
  }
}

/**
 * Rows first … first+count of a symmetric f32 matrix (upper triangle read) into the lower triangle of a f64 matrix, times
 * `scale`, `shift` added to the diagonal. A diagonal entry 0 counts as 1.
 */
export function loadSymmetric(
  source: usize,
  first: i32,
  count: i32,
  size: i32,
  positions: usize,
  a: usize,
  stride: usize,
  scale: f64,
  shift: f64,
  thread: i32,
  threads: i32,
): void {
  const end = first + shareEnd(count, 1, thread, threads);
  for (let i = first + shareStart(count, 1, thread, threads); i < end; i++) {
    const row = source + <usize>(i - first) * (<usize>size << 2);
    const at = load<i32>(positions + (<usize>i << 2));
    for (let j = i + 1; j < size; j++) {
      const other = load<i32>(positions + (<usize>j << 2));
      store<f64>(cell(a, stride, max(at, other), min(at, other)), <f64>load<f32>(row + (<usize>j << 2)) * scale);
    }
    const diagonal = <f64>load<f32>(row + (<usize>i << 2)) * scale;
    store<f64>(cell(a, stride, at, at), (diagonal == 0 ? 1 : diagonal) + shift);
  }
}

/** Rows of a square f32 matrix into a f64 matrix, times `scale`. */
export function loadSquare(
  source: usize,
  first: i32,
  count: i32,
  size: i32,
  positions: usize,
  a: usize,
  stride: usize,
  scale: f64,
  thread: i32,
  threads: i32,
): void {
  const end = first + shareEnd(count, 1, thread, threads);
  for (let i = first + shareStart(count, 1, thread, threads); i < end; i++) {
    const row = source + <usize>(i - first) * (<usize>size << 2);
    const to = cell(a, stride, load<i32>(positions + (<usize>i << 2)), 0);
    for (let j = 0; j < size; j++) {
      const other = load<i32>(positions + (<usize>j << 2));
      store<f64>(to + (<usize>other << 3), <f64>load<f32>(row + (<usize>j << 2)) * scale);
    }
  }
}
