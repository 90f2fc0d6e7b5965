// Gradients of look-ups: rows of a table that several positions read get the sum of what these positions give.
//
// embeddingBackward works on lists of positions by id (expertSort makes them), so that a row of the table belongs to
// one thread and its sum has one order.

import { expertIndexError } from '../../../data-error-codes';
import { address, at, word } from '../common/args';
import { shareEnd, shareStart } from '../common/share';
import { reportError } from './error';

/** Σ of four columns over the listed rows, in f64. */
// @ts-ignore: decorator
@inline
function sumListed(list: usize, count: i32, from: usize, rowBytes: usize): v128 {
  let low = f64x2.splat(0);
  let high = low;
  for (let i = 0; i < count; i++) {
    const v = v128.load(from + <usize>load<i32>(at(list, i)) * rowBytes);
    low = f64x2.add(low, f64x2.promote_low_f32x4(v));
    high = f64x2.add(high, f64x2.promote_low_f32x4(v128.shuffle<i32>(v, v, 2, 3, 2, 3)));
  }
  return v128.shuffle<i32>(f32x4.demote_f64x2_zero(low), f32x4.demote_f64x2_zero(high), 0, 1, 4, 5);
}

/** Words: list (offsets [V + 1], then positions by id), dy, out, V, C. */
export function embeddingBackward(args: usize, thread: i32, threads: i32): void {
  const offsets = address(args, 0);
  const dy = address(args, 1);
  const rows = word(args, 3);
  const columns = word(args, 4);
  const list = offsets + ((<usize>(rows + 1)) << 2);
  const rowBytes = (<usize>columns) << 2;
  const end = shareEnd(rows, 1, thread, threads);
  for (let r = shareStart(rows, 1, thread, threads); r < end; r++) {
    const first = load<i32>(at(offsets, r));
    const count = load<i32>(at(offsets, r + 1)) - first;
    const out = address(args, 2) + <usize>r * rowBytes;
    const own = at(list, first);
    if (count == 0) memory.fill(out, 0, rowBytes);
    else if (count == 1) memory.copy(out, dy + <usize>load<i32>(own) * rowBytes, rowBytes);
    else {
      let c = 0;
      for (; c + 4 <= columns; c += 4) v128.store(at(out, c), sumListed(own, count, at(dy, c), rowBytes));
      for (; c < columns; c++) {
        let total: f64 = 0;
        for (let i = 0; i < count; i++) total += <f64>load<f32>(at(dy, c) + <usize>load<i32>(at(own, i)) * rowBytes);
        store<f32>(at(out, c), <f32>total);
      }
    }
  }
}

/** Words: indices, dvalues, dx, N, k, E. */
export function topKBackward(args: usize, thread: i32, threads: i32): void {
  const rows = word(args, 3);
  const k = word(args, 4);
  const entries = word(args, 5);
  const end = shareEnd(rows, 1, thread, threads);
  for (let r = shareStart(rows, 1, thread, threads); r < end; r++) {
    const out = at(address(args, 2), r * entries);
    memory.fill(out, 0, (<usize>entries) << 2);
    for (let i = r * k; i < (r + 1) * k; i++) {
      const e = load<i32>(at(address(args, 0), i));
      if (e < 0 || e >= entries) reportError(expertIndexError, e);
      else store<f32>(at(out, e), load<f32>(at(out, e)) + load<f32>(at(address(args, 1), i)));
    }
  }
}

/** 1 where a target is 0 or more. Words: targets, out, count. */
export function targetMask(args: usize, thread: i32, threads: i32): void {
  const count = word(args, 2);
  const end = shareEnd(count, 16, thread, threads);
  for (let i = shareStart(count, 16, thread, threads); i < end; i++)
    store<f32>(at(address(args, 1), i), load<i32>(at(address(args, 0), i)) >= 0 ? 1 : 0);
}
