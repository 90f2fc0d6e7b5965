// Rows cut at their quantiles, and products with sparse rows. Threads take rows.
//
// The values at two places of the sorted row come from two short sorted lists, of the smallest and of the largest values,
// that most values never enter.
//
// Words of splitOutliers: x, clamped, values, columns, rows, K, smallest values to list, largest values to list, S,
// scratch of the threads, bytes of it each. Of sparseMatmul: values, columns, table, y, rows, S, K, N. Of spreadSparse:
// values, columns, y, rows, S, K.

import { embeddingIdError } from '../../../data-error-codes';
import { address, at, word } from '../common/args';
import { shareEnd, shareStart } from '../common/share';
import { reportError } from './error';

/** Value number `count` − 1 of a row in ascending order, or descending with `sign` −1; `list` has room for `count`. */
function placed(x: usize, length: i32, count: i32, sign: f32, list: usize): f32 {
  let held = 0;
  for (let i = 0; i < length; i++) {
    const v = sign * load<f32>(at(x, i));
    if (held == count && !(v < load<f32>(at(list, count - 1)))) continue;
    let place = held < count ? held++ : count - 1;
    for (; place > 0 && v < load<f32>(at(list, place - 1)); place--)
      store<f32>(at(list, place), load<f32>(at(list, place - 1)));
    store<f32>(at(list, place), v);
  }
  return sign * load<f32>(at(list, count - 1));
}

export function splitOutliers(args: usize, thread: i32, threads: i32): void {
  const rows = word(args, 4);
  const K = word(args, 5);
  const most = word(args, 8);
  const list = address(args, 9) + <usize>thread * address(args, 10);
  const end = shareEnd(rows, 1, thread, threads);
  for (let r = shareStart(rows, 1, thread, threads); r < end; r++) {
    const x = at(address(args, 0), r * K);
    const clamped = at(address(args, 1), r * K);
    const values = at(address(args, 2), r * most);
    const columns = at(address(args, 3), r * most);
    const low = placed(x, K, word(args, 6), 1, list);
    const high = placed(x, K, word(args, 7), -1, list);
    memory.fill(values, 0, (<usize>most) << 2);
    memory.fill(columns, 0, (<usize>most) << 2);
    let found = 0;
    for (let k = 0; k < K; k++) {
      const v = load<f32>(at(x, k));
      const bound = v < low ? low : v > high ? high : v;
      store<f32>(at(clamped, k), bound);
      if (v == bound || found == most) continue;
      store<f32>(at(values, found), v - bound);
      store<i32>(at(columns, found), k);
      found++;
    }
  }
}

/** A column, 0 and an error where there is none. */
// @ts-ignore: decorator
@inline
function columnAt(columns: usize, i: i32, K: i32): i32 {
  const k = load<i32>(at(columns, i));
  if (<u32>k < <u32>K) return k;
  reportError(embeddingIdError, k);
  return 0;
}

export function sparseMatmul(args: usize, thread: i32, threads: i32): void {
  const values = address(args, 0);
  const columns = address(args, 1);
  const rows = word(args, 4);
  const S = word(args, 5);
  const K = word(args, 6);
  const N = word(args, 7);
  const end = shareEnd(rows, 1, thread, threads);
  for (let r = shareStart(rows, 1, thread, threads); r < end; r++) {
    const y = at(address(args, 3), r * N);
    memory.fill(y, 0, (<usize>N) << 2);
    for (let i = r * S; i < (r + 1) * S; i++) {
      const v = load<f32>(at(values, i));
      const from = at(address(args, 2), columnAt(columns, i, K) * N);
      if (v == 0) continue;
      const all = f32x4.splat(v);
      let n = 0;
      for (; n + 4 <= N; n += 4)
        v128.store(at(y, n), f32x4.add(v128.load(at(y, n)), f32x4.mul(all, v128.load(at(from, n)))));
      for (; n < N; n++) store<f32>(at(y, n), load<f32>(at(y, n)) + v * load<f32>(at(from, n)));
    }
  }
}

export function spreadSparse(args: usize, thread: i32, threads: i32): void {
  const values = address(args, 0);
  const columns = address(args, 1);
  const rows = word(args, 3);
  const S = word(args, 4);
  const K = word(args, 5);
  const end = shareEnd(rows, 1, thread, threads);
  for (let r = shareStart(rows, 1, thread, threads); r < end; r++) {
    const y = at(address(args, 2), r * K);
    memory.fill(y, 0, (<usize>K) << 2);
    for (let i = r * S; i < (r + 1) * S; i++) {
      const to = at(y, columnAt(columns, i, K));
      store<f32>(to, load<f32>(to) + load<f32>(at(values, i)));
    }
  }
}
