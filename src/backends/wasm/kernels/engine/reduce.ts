// Sums, means and maxima over any axes, and the position of the maximum.
//
// The host merges neighbouring axes of one role, so that a shape is kept and reduced dimensions in turn. Two cases
// have vector code: the innermost dimension is reduced (whole rows are combined), or it is kept (four results side by
// side). Each result is computed by one thread.

import { address, at, loadOne, storeOne, word } from '../common/args';
import { shareEnd, shareStart } from '../common/share';
import { argmaxRow, maxRow, sumRow } from './rows';

/** Offset of item `index` in the dimensions (size, stride) listed at `dims`, innermost last. */
// @ts-ignore: decorator
@inline
export function offsetOf(dims: usize, rank: i32, index: i32): i32 {
  let offset = 0;
  for (let d = rank - 1; d >= 0; d--) {
    const size = word(dims, 2 * d);
    offset += (index % size) * word(dims, 2 * d + 1);
    index /= size;
  }
  return offset;
}

/**
 * Words: kind (0 sum, 1 max), x, out, results, divisor (1, or n for a mean), inner (length of the innermost
 * dimension), inner is reduced (1) or kept (0), ranks of kept and reduced dimensions besides the innermost, steps
 * (product of these reduced sizes), then their (size, stride) pairs, kept ones first.
 */
export function reduce(args: usize, thread: i32, threads: i32): void {
  const kind = word(args, 0);
  const x = address(args, 1);
  const out = address(args, 2);
  const results = word(args, 3);
  const count = word(args, 4);
  const inner = word(args, 5);
  const keptRank = word(args, 7);
  const reducedRank = word(args, 8);
  const steps = word(args, 9);
  const kept = args + 40;
  const reduced = kept + <usize>keptRank * 8;

  if (word(args, 6) == 1) {
    const end = shareEnd(results, 1, thread, threads);
    for (let r = shareStart(results, 1, thread, threads); r < end; r++) {
      const base = at(x, offsetOf(kept, keptRank, r));
      let total: f64 = 0;
      let best: f32 = -Infinity;
      for (let step = 0; step < steps; step++) {
        const from = at(base, offsetOf(reduced, reducedRank, step));
        if (kind == 0) total += sumRow(from, inner);
        else best = max(best, maxRow(from, inner));
      }
      store<f32>(at(out, r), kind == 0 ? <f32>(total / <f64>count) : best);
    }
    return;
  }

  const columns = (inner + 3) >> 2;
  const tasks = (results / inner) * columns;
  const end = shareEnd(tasks, 1, thread, threads);
  for (let t = shareStart(tasks, 1, thread, threads); t < end; t++) {
    const column = (t % columns) << 2;
    const r = t / columns;
    const base = at(x, offsetOf(kept, keptRank, r) + column);
    const target = at(out, r * inner + column);
    if (column + 4 <= inner) columnsOf4(kind, base, target, count, reduced, reducedRank, steps, 16);
    else
      for (let i = 0; i < inner - column; i++)
        columnsOf4(kind, at(base, i), at(target, i), count, reduced, reducedRank, steps, 4);
  }
}

/** Four results side by side (bytes 16), or one (bytes 4); sums run in two f64 halves. */
function columnsOf4(
  kind: i32,
  base: usize,
  target: usize,
  count: i32,
  reduced: usize,
  rank: i32,
  steps: i32,
  bytes: i32,
): void {
  let low = f64x2.splat(0);
  let high = low;
  let best = f32x4.splat(-Infinity);
  for (let step = 0; step < steps; step++) {
    const from = at(base, offsetOf(reduced, rank, step));
    const v = bytes == 16 ? v128.load(from) : loadOne(from);
    if (kind == 0) {
      low = f64x2.add(low, f64x2.promote_low_f32x4(v));
      high = f64x2.add(high, f64x2.promote_low_f32x4(v128.shuffle<i32>(v, v, 2, 3, 2, 3)));
    } else best = f32x4.max(best, v);
  }
  if (kind == 0) {
    const f = f64x2.splat(<f64>count);
    const a = f32x4.demote_f64x2_zero(f64x2.div(low, f));
    const b = f32x4.demote_f64x2_zero(f64x2.div(high, f));
    best = v128.shuffle<i32>(a, b, 0, 1, 4, 5);
  }
  if (bytes == 16) v128.store(target, best);
  else storeOne(target, best);
}

/** Words: x, out (i32), rows, columns. */
export function argmax(args: usize, thread: i32, threads: i32): void {
  const x = address(args, 0);
  const out = address(args, 1);
  const rows = word(args, 2);
  const columns = word(args, 3);
  const end = shareEnd(rows, 1, thread, threads);
  for (let r = shareStart(rows, 1, thread, threads); r < end; r++)
    store<i32>(at(out, r), argmaxRow(x + <usize>r * ((<usize>columns) << 2), columns));
}
