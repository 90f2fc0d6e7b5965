// Negative log-likelihood with the last projection fused, and the comparison of two sets of logits.
//
// crossEntropy: N×V logits never exist. The vocabulary is cut into fixed chunks; a task is a block of at most 192 rows and a
// chunk and belongs to one thread. It computes logits in tiles of these rows × 256 entries by the matrix product
// (matmul-f32.ts) and keeps for each row the running maximum, the sum of exponentials and the logit of the target. A
// second command combines the chunks of each row in order.
// Scratch per thread: that of the matrix product, then one tile of logits.

import { targetError } from '../../../data-error-codes';
import { address, at, maxLanes, sumLanes, word } from '../common/args';
import { weight4 } from '../common/exp';
import { exp4 } from '../common/math';
import { shareEnd, shareStart } from '../common/share';
import { reportError } from './error';
import { product, threadScratch } from './matmul-f32';
import { tileRows } from './matmul-tile';
import { argmaxRow, maxRow } from './rows';

const mostRows: i32 = 192;
const blockEntries: i32 = 256;
const lineBytes: usize = 1024;

/**
 * Words: targets, partials, chunk, chunks, scratch, scratch bytes of a thread, two unused, then the words of matmulF32
 * for hidden [N, C] · weight [V, C]ᵀ with rows of C of 1024 bytes. Partials: [N, chunks] of (maximum, sum, target's
 * logit).
 */
export function crossEntropyPartial(args: usize, thread: i32, threads: i32): void {
  const targets = address(args, 0);
  const partials = address(args, 1);
  const chunk = word(args, 2);
  const chunks = word(args, 3);
  const own = address(args, 4) + <usize>thread * address(args, 5);
  const logits = own + threadScratch;
  const matrix = args + 32;
  const count = word(matrix, 1);
  const vocabulary = word(matrix, 2);
  const hidden = address(matrix, 4);
  const weight = address(matrix, 8);
  const blockRows = rowsOfTask(count, chunks, threads);
  const tasks = ((count + blockRows - 1) / blockRows) * chunks;
  for (let task = thread; task < tasks; task += threads) {
    const part = task % chunks;
    const first = (task / chunks) * blockRows;
    const rows = min(blockRows, count - first);
    for (let m = 0; m < rows; m++) {
      const partial = partials + <usize>((first + m) * chunks + part) * 12;
      store<f32>(partial, -Infinity);
      store<f32>(partial, 0, 4);
      store<f32>(partial, 0, 8);
    }
    const last = min((part + 1) * chunk, vocabulary);
    for (let entry = part * chunk; entry < last; entry += blockEntries) {
      const entries = min(blockEntries, last - entry);
      // The product addresses C by row and column; the tile stands for its part of C.
      const c = logits - <usize>first * lineBytes - ((<usize>entry) << 2);
      product(matrix, hidden, weight, 0, c, first, first + rows, entry, entry + entries, own, 0, 1, false);
      for (let m = 0; m < rows; m++) {
        const line = logits + <usize>m * lineBytes;
        const target = load<i32>(at(targets, first + m)) - entry;
        const partial = partials + <usize>((first + m) * chunks + part) * 12;
        if (target >= 0 && target < entries) store<f32>(partial, load<f32>(at(line, target)), 8);
        sumTile(line, entries, partial);
      }
    }
  }
}

/** Rows of a task: as many tasks for every thread. Rows do not depend on each other, so results do not depend on it. */
function rowsOfTask(count: i32, chunks: i32, threads: i32): i32 {
  let blocks = (count + mostRows - 1) / mostRows;
  while ((blocks * chunks) % threads != 0) blocks++;
  return min((((count + blocks - 1) / blocks + tileRows - 1) / tileRows) * tileRows, mostRows);
}

/** Adds a row of logits to a running (maximum, sum of exponentials). */
function sumTile(line: usize, entries: i32, partial: usize): void {
  const width = (entries + 7) & ~7;
  for (let j = entries; j < width; j++) store<f32>(at(line, j), -Infinity);
  // two of each, since a vector waits for the one before it
  let m0 = v128.load(line);
  let m1 = v128.load(line, 16);
  for (let j = 8; j < width; j += 8) {
    m0 = f32x4.pmax(m0, v128.load(at(line, j)));
    m1 = f32x4.pmax(m1, v128.load(at(line, j), 16));
  }
  const before = load<f32>(partial);
  const most = max(before, maxLanes(f32x4.pmax(m0, m1)));
  const shift = f32x4.splat(most);
  let sum0 = f32x4.splat(0);
  let sum1 = sum0;
  for (let j = 0; j < width; j += 8) {
    const x = at(line, j);
    sum0 = f32x4.add(sum0, weight4(f32x4.sub(v128.load(x), shift)));
    sum1 = f32x4.add(sum1, weight4(f32x4.sub(v128.load(x, 16), shift)));
  }
  let total = load<f32>(partial, 4);
  if (most != before) total *= f32x4.extract_lane(exp4(f32x4.splat(before - most)), 0);
  store<f32>(partial, most);
  store<f32>(partial, total + sumLanes(f32x4.add(sum0, sum1)), 4);
}

/** Words: partials, targets, out, N, chunks, V. */
export function crossEntropyCombine(args: usize, thread: i32, threads: i32): void {
  const targets = address(args, 1);
  const count = word(args, 3);
  const chunks = word(args, 4);
  const vocabulary = word(args, 5);
  const end = shareEnd(count, 16, thread, threads);
  for (let r = shareStart(count, 16, thread, threads); r < end; r++) {
    const partial = address(args, 0) + <usize>(r * chunks) * 12;
    const target = load<i32>(at(targets, r));
    if (target >= vocabulary) reportError(targetError, target);
    if (target < 0 || target >= vocabulary) {
      store<f32>(at(address(args, 2), r), 0);
      continue;
    }
    let most = load<f32>(partial);
    for (let c = 1; c < chunks; c++) most = max(most, load<f32>(partial + <usize>c * 12));
    let total: f64 = 0;
    let logit: f64 = 0;
    for (let c = 0; c < chunks; c++) {
      const p = partial + <usize>c * 12;
      total += <f64>load<f32>(p, 4) * NativeMath.exp(<f64>load<f32>(p) - <f64>most);
      logit += <f64>load<f32>(p, 8);
    }
    store<f32>(at(address(args, 2), r), <f32>(NativeMath.log(total) + (<f64>most - logit)));
  }
}

/** log Σ e^(x − most), sums in runs of 1024. */
export function logSum(x: usize, count: i32, most: f32): f64 {
  const shift = f32x4.splat(most);
  let total: f64 = 0;
  for (let start = 0; start < count; start += 1024) {
    const end = min(start + 1024, count);
    let sum = f32x4.splat(0);
    let i = start;
    for (; i + 4 <= end; i += 4) sum = f32x4.add(sum, exp4(f32x4.sub(v128.load(at(x, i)), shift)));
    let tail: f32 = 0;
    for (; i < end; i++)
      tail += f32x4.extract_lane(exp4(f32x4.sub(v128.load32_splat(at(x, i)), shift)), 0);
    total += <f64>(sumLanes(sum) + tail);
  }
  return NativeMath.log(total);
}

/**
 * Σ_v e^(p_v − normP) (p_v − q_v): the part of the divergence that depends on v. Entries of probability 0 give 0.
 * The differences and their sum are f64: near-equal logits cancel.
 */
export function divergence(p: usize, q: usize, count: i32, most: f32, normP: f64): f64 {
  let low = f64x2.splat(0);
  let high = low;
  const zero = f32x4.splat(0);
  const shift = f32x4.splat(most);
  for (let i = 0; i < count; i += 4) {
    const whole = i + 4 <= count;
    let a = zero;
    let b = zero;
    let weight = zero;
    if (whole) {
      a = v128.load(at(p, i));
      b = v128.load(at(q, i));
      weight = exp4(f32x4.sub(a, shift));
    } else {
      // The last one to three entries, weight 0 in the other lanes.
      for (let j = i; j < count; j++) {
        a = v128.shuffle<i32>(a, v128.load32_splat(at(p, j)), 1, 2, 3, 4);
        b = v128.shuffle<i32>(b, v128.load32_splat(at(q, j)), 1, 2, 3, 4);
        weight = v128.shuffle<i32>(weight, exp4(f32x4.sub(v128.load32_splat(at(p, j)), shift)), 1, 2, 3, 4);
      }
    }
    const none = f32x4.eq(weight, zero);
    const difference = v128.andnot(f32x4.sub(a, b), none);
    low = f64x2.add(low, f64x2.mul(f64x2.promote_low_f32x4(weight), f64x2.promote_low_f32x4(difference)));
    high = f64x2.add(
      high,
      f64x2.mul(
        f64x2.promote_low_f32x4(v128.shuffle<i32>(weight, weight, 2, 3, 2, 3)),
        f64x2.promote_low_f32x4(v128.shuffle<i32>(difference, difference, 2, 3, 2, 3)),
      ),
    );
  }
  const sum = f64x2.add(low, high);
  return (f64x2.extract_lane(sum, 0) + f64x2.extract_lane(sum, 1)) * NativeMath.exp(-normP);
}

/** Words: p, q, targets, out [N, 4], N, V. */
export function compareLogits(args: usize, thread: i32, threads: i32): void {
  const targets = address(args, 2);
  const count = word(args, 4);
  const vocabulary = word(args, 5);
  const rowBytes = (<usize>vocabulary) << 2;
  const end = shareEnd(count, 1, thread, threads);
  for (let r = shareStart(count, 1, thread, threads); r < end; r++) {
    const p = address(args, 0) + <usize>r * rowBytes;
    const q = address(args, 1) + <usize>r * rowBytes;
    const out = address(args, 3) + (<usize>r << 4);
    const mostP = maxRow(p, vocabulary);
    const mostQ = maxRow(q, vocabulary);
    const normP = logSum(p, vocabulary, mostP);
    const normQ = logSum(q, vocabulary, mostQ);
    const target = load<i32>(at(targets, r));
    if (target >= vocabulary) reportError(targetError, target);
    const known = target >= 0 && target < vocabulary;
    store<f32>(out, known ? <f32>(normP + <f64>mostP - <f64>load<f32>(at(p, target))) : 0);
    store<f32>(out, known ? <f32>(normQ + <f64>mostQ - <f64>load<f32>(at(q, target))) : 0, 4);
    const offset = normQ + <f64>mostQ - (normP + <f64>mostP);
    store<f32>(out, <f32>(divergence(p, q, vocabulary, mostP, normP) + offset), 8);
    store<f32>(out, argmaxRow(p, vocabulary) == argmaxRow(q, vocabulary) ? 1 : 0, 12);
  }
}
