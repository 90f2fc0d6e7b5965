// Gradients over rows of the last axis: softmax, RMSNorm, LayerNorm, the maximum.
//
// The gradients of a norm's vectors are sums over all rows. Blocks of 32 rows, fixed so that bits do not depend on the
// threads, leave their sums in scratch as f64; a second command adds the blocks up in order, a column to a thread.

import { address, at, loadOne, real, storeOne, word } from '../common/args';
import { shareEnd, shareStart } from '../common/share';
import { offsetOf } from './reduce';
import { dotRow, sumRow, sumSquares } from './rows';

const blockRows: i32 = 32;

/** y · (dy − Σ y dy). Words: y, dy, dx, rows, columns. */
export function softmaxBackward(args: usize, thread: i32, threads: i32): void {
  const rows = word(args, 3);
  const columns = word(args, 4);
  const rowBytes = (<usize>columns) << 2;
  const end = shareEnd(rows, 1, thread, threads);
  for (let r = shareStart(rows, 1, thread, threads); r < end; r++) {
    const y = address(args, 0) + <usize>r * rowBytes;
    const dy = address(args, 1) + <usize>r * rowBytes;
    const dx = address(args, 2) + <usize>r * rowBytes;
    const mean = f32x4.splat(<f32>dotRow(y, dy, columns));
    let i = 0;
    for (; i + 4 <= columns; i += 4)
      v128.store(at(dx, i), f32x4.mul(v128.load(at(y, i)), f32x4.sub(v128.load(at(dy, i)), mean)));
    for (; i < columns; i++) storeOne(at(dx, i), f32x4.mul(loadOne(at(y, i)), f32x4.sub(loadOne(at(dy, i)), mean)));
  }
}

// @ts-ignore: decorator
@inline
function upper(v: v128): v128 {
  return f64x2.promote_low_f32x4(v128.shuffle<i32>(v, v, 2, 3, 2, 3));
}

/** Adds four numbers to four f64 sums. */
// @ts-ignore: decorator
@inline
function addTo(sums: usize, v: v128): void {
  v128.store(sums, f64x2.add(v128.load(sums), f64x2.promote_low_f32x4(v)));
  v128.store(sums, f64x2.add(v128.load(sums, 16), upper(v)), 16);
}

// @ts-ignore: decorator
@inline
function addOneTo(sums: usize, v: v128): void {
  store<f64>(sums, load<f64>(sums) + <f64>f32x4.extract_lane(v, 0));
}

/**
 * One row: dx, and its part of the sums of dweight and, with `centered`, dbias. n = (x − mean) · factor,
 * u = weight · dy, dx = (u − Σu/C − n Σun/C) · factor; RMSNorm has neither the mean nor Σu.
 */
// @ts-ignore: decorator
@inline
function normRow(
  centered: bool,
  x: usize,
  weight: usize,
  dy: usize,
  dx: usize,
  columns: i32,
  epsilon: f64,
  weightSums: usize,
  biasSums: usize,
): void {
  const mean = centered ? <f32>(sumRow(x, columns) / <f64>columns) : <f32>0;
  const m = f32x4.splat(mean);
  const f = f32x4.splat(<f32>(<f64>1 / Math.sqrt(sumSquares(x, columns, mean) / <f64>columns + epsilon)));
  let plain = f64x2.splat(0);
  let correlated = f64x2.splat(0);
  let i = 0;
  for (; i + 4 <= columns; i += 4) {
    const g = v128.load(at(dy, i));
    const v = v128.load(at(x, i));
    const n = f32x4.mul(centered ? f32x4.sub(v, m) : v, f);
    const u = f32x4.mul(v128.load(at(weight, i)), g);
    const un = f32x4.mul(u, n);
    correlated = f64x2.add(correlated, f64x2.add(f64x2.promote_low_f32x4(un), upper(un)));
    addTo(weightSums + ((<usize>i) << 3), f32x4.mul(g, n));
    if (centered) {
      plain = f64x2.add(plain, f64x2.add(f64x2.promote_low_f32x4(u), upper(u)));
      addTo(biasSums + ((<usize>i) << 3), g);
    }
  }
  let sum = f64x2.extract_lane(plain, 0) + f64x2.extract_lane(plain, 1);
  let product = f64x2.extract_lane(correlated, 0) + f64x2.extract_lane(correlated, 1);
  for (; i < columns; i++) {
    const g = loadOne(at(dy, i));
    const n = f32x4.mul(f32x4.sub(loadOne(at(x, i)), m), f);
    const u = f32x4.mul(loadOne(at(weight, i)), g);
    product += <f64>f32x4.extract_lane(f32x4.mul(u, n), 0);
    addOneTo(weightSums + ((<usize>i) << 3), f32x4.mul(g, n));
    if (centered) {
      sum += <f64>f32x4.extract_lane(u, 0);
      addOneTo(biasSums + ((<usize>i) << 3), g);
    }
  }
  const a = f32x4.splat(<f32>(sum / <f64>columns));
  const b = f32x4.splat(<f32>(product / <f64>columns));
  for (i = 0; i + 4 <= columns; i += 4) {
    const v = v128.load(at(x, i));
    const n = f32x4.mul(centered ? f32x4.sub(v, m) : v, f);
    let u = f32x4.mul(v128.load(at(weight, i)), v128.load(at(dy, i)));
    if (centered) u = f32x4.sub(u, a);
    v128.store(at(dx, i), f32x4.mul(f32x4.sub(u, f32x4.mul(n, b)), f));
  }
  for (; i < columns; i++) {
    const n = f32x4.mul(f32x4.sub(loadOne(at(x, i)), m), f);
    const u = f32x4.sub(f32x4.mul(loadOne(at(weight, i)), loadOne(at(dy, i))), a);
    storeOne(at(dx, i), f32x4.mul(f32x4.sub(u, f32x4.mul(n, b)), f));
  }
}

/** Words: 1 for LayerNorm, x, weight, dy, dx, scratch (f64 [blocks, vectors, C]), rows, columns, ε. */
export function normBackward(args: usize, thread: i32, threads: i32): void {
  const centered = word(args, 0) != 0;
  const weight = address(args, 2);
  const rows = word(args, 6);
  const columns = word(args, 7);
  const epsilon = <f64>real(args, 8);
  const rowBytes = (<usize>columns) << 2;
  const sumBytes = (<usize>columns) << 3;
  const blockBytes: usize = centered ? sumBytes << 1 : sumBytes;
  const blocks = (rows + blockRows - 1) / blockRows;
  for (let block = thread; block < blocks; block += threads) {
    const sums = address(args, 5) + <usize>block * blockBytes;
    memory.fill(sums, 0, blockBytes);
    const end = min((block + 1) * blockRows, rows);
    for (let r = block * blockRows; r < end; r++) {
      const offset = <usize>r * rowBytes;
      const x = address(args, 1) + offset;
      const dy = address(args, 3) + offset;
      const dx = address(args, 4) + offset;
      if (centered) normRow(true, x, weight, dy, dx, columns, epsilon, sums, sums + sumBytes);
      else normRow(false, x, weight, dy, dx, columns, epsilon, sums, 0);
    }
  }
}

/** The sums of all blocks, in order. Words: first sum (f64), blocks, results, out, f64 from block to block. */
export function addBlocks(args: usize, thread: i32, threads: i32): void {
  const sums = address(args, 0);
  const blocks = word(args, 1);
  const count = word(args, 2);
  const out = address(args, 3);
  const stride = (<usize>word(args, 4)) << 3;
  const end = shareEnd(count, 16, thread, threads);
  for (let i = shareStart(count, 16, thread, threads); i < end; i++) {
    let total: f64 = 0;
    let from = sums + ((<usize>i) << 3);
    for (let block = 0; block < blocks; block++) {
      total += load<f64>(from);
      from += stride;
    }
    store<f32>(at(out, i), <f32>total);
  }
}

/** Elements of a row that equal v. */
function countEqual(x: usize, count: i32, v: f32): i32 {
  const target = f32x4.splat(v);
  let hits = i32x4.splat(0);
  let i = 0;
  for (; i + 4 <= count; i += 4) hits = i32x4.sub(hits, f32x4.eq(v128.load(at(x, i)), target));
  let total =
    i32x4.extract_lane(hits, 0) + i32x4.extract_lane(hits, 1) + i32x4.extract_lane(hits, 2) + i32x4.extract_lane(hits, 3);
  for (; i < count; i++) if (load<f32>(at(x, i)) == v) total++;
  return total;
}

/**
 * dy / ties where x is the maximum, 0 elsewhere. Words: x, y, dy, dx, results, run (neighbouring elements of one
 * result), steps (runs of one result), ranks of the kept and of the reduced dimensions besides the run, then their
 * (size, stride) pairs, kept ones first. Every result belongs to one thread.
 */
export function maxBackward(args: usize, thread: i32, threads: i32): void {
  const x = address(args, 0);
  const dx = address(args, 3);
  const results = word(args, 4);
  const run = word(args, 5);
  const steps = word(args, 6);
  const keptRank = word(args, 7);
  const reducedRank = word(args, 8);
  const kept = args + 36;
  const reduced = kept + <usize>keptRank * 8;
  const end = shareEnd(results, 1, thread, threads);
  for (let r = shareStart(results, 1, thread, threads); r < end; r++) {
    const most = load<f32>(at(address(args, 1), r));
    const base = offsetOf(kept, keptRank, r);
    let ties = 0;
    for (let s = 0; s < steps; s++) ties += countEqual(at(x, base + offsetOf(reduced, reducedRank, s)), run, most);
    const part = f32x4.splat(load<f32>(at(address(args, 2), r)) / <f32>ties);
    const target = f32x4.splat(most);
    for (let s = 0; s < steps; s++) {
      const first = base + offsetOf(reduced, reducedRank, s);
      let i = 0;
      for (; i + 4 <= run; i += 4)
        v128.store(at(dx, first + i), v128.and(part, f32x4.eq(v128.load(at(x, first + i)), target)));
      for (; i < run; i++) storeOne(at(dx, first + i), v128.and(part, f32x4.eq(loadOne(at(x, first + i)), target)));
    }
  }
}
