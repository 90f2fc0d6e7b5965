// Kernels that move data without computing: fill, strided copy, cache rows.

import { address, at, word } from '../common/args';
import { shareEnd, shareStart } from '../common/share';
import { reportError } from './error';
import { cacheRangeError } from '../../../data-error-codes';
import { transposeMatrix } from './transpose';

/** Stores one 32-bit word `count` times. Words: out, count, word. */
export function fill(args: usize, thread: i32, threads: i32): void {
  const out = address(args, 0);
  const count = word(args, 1);
  const value = i32x4.splat(word(args, 2));
  const end = shareEnd(count, 16, thread, threads);
  let i = shareStart(count, 16, thread, threads);
  for (; i + 4 <= end; i += 4) v128.store(at(out, i), value);
  for (; i < end; i++) v128.store32_lane(at(out, i), value, 0);
}

/**
 * Copies 32-bit elements between two strided layouts: transpose, slice, concat, pad, broadcastTo (stride 0 in from).
 * Words: from, to, rank, then for each dimension, outermost first: size, stride in from, stride in to (elements). Rows
 * of the innermost dimension are shared between the threads, or the elements where there is only one.
 */
export function copyStrided(args: usize, thread: i32, threads: i32): void {
  const from = address(args, 0);
  const to = address(args, 1);
  const rank = word(args, 2);
  const dims = args + 12;
  const inner = dims + <usize>(rank - 1) * 12;
  const count = word(inner, 0);
  const fromStep = word(inner, 1);
  const toStep = word(inner, 2);
  if (rank == 1) {
    const start = shareStart(count, 16, thread, threads);
    const end = shareEnd(count, 16, thread, threads);
    if (start < end) copyRow(at(from, start * fromStep), fromStep, at(to, start * toStep), toStep, end - start);
    return;
  }
  if (rank == 2 && toStep == 1 && fromStep > 1 && word(dims, 1) == 1) {
    transposeMatrix(from, to, word(dims, 0), count, fromStep, word(dims, 2), thread, threads);
    return;
  }
  let rows = 1;
  for (let d = 0; d < rank - 1; d++) rows *= word(dims + <usize>d * 12, 0);
  const end = shareEnd(rows, 1, thread, threads);
  for (let r = shareStart(rows, 1, thread, threads); r < end; r++) {
    let rest = r;
    let fromOffset = 0;
    let toOffset = 0;
    for (let d = rank - 2; d >= 0; d--) {
      const dimension = dims + <usize>d * 12;
      const size = word(dimension, 0);
      const index = rest % size;
      rest /= size;
      fromOffset += index * word(dimension, 1);
      toOffset += index * word(dimension, 2);
    }
    copyRow(at(from, fromOffset), fromStep, at(to, toOffset), toStep, count);
  }
}

// @ts-ignore: decorator
@inline
function copyRow(from: usize, fromStep: i32, to: usize, toStep: i32, count: i32): void {
  if (fromStep == 1 && toStep == 1) {
    memory.copy(to, from, (<usize>count) << 2);
    return;
  }
  if (fromStep == 0 && toStep == 1) {
    const value = v128.load32_splat(from);
    let i = 0;
    for (; i + 4 <= count; i += 4) v128.store(at(to, i), value);
    for (; i < count; i++) v128.store32_lane(at(to, i), value, 0);
    return;
  }
  const fromBytes = (<usize>fromStep) << 2;
  const toBytes = (<usize>toStep) << 2;
  for (let i = 0; i < count; i++) {
    store<i32>(to, load<i32>(from));
    from += fromBytes;
    to += toBytes;
  }
}

/** Writes rows start … start+T−1 of a cache. Words: cache, x, start (address of one i32), B, S, T, row bytes. */
export function cacheWrite(args: usize, thread: i32, threads: i32): void {
  const cache = address(args, 0);
  const x = address(args, 1);
  const start = load<i32>(address(args, 2));
  const batch = word(args, 3);
  const capacity = word(args, 4);
  const tokens = word(args, 5);
  const rowBytes = <usize>word(args, 6);
  if (start < 0 || start > capacity - tokens) {
    if (thread == 0) reportError(cacheRangeError, start);
    return;
  }
  const rows = batch * tokens;
  const end = shareEnd(rows, 1, thread, threads);
  for (let r = shareStart(rows, 1, thread, threads); r < end; r++) {
    const to = (r / tokens) * capacity + start + (r % tokens);
    memory.copy(cache + <usize>to * rowBytes, x + <usize>r * rowBytes, rowBytes);
  }
}

/**
 * Writes tokens start … start+T−1 of a ring: token s to row s below `sinks`, else to sinks + (s − sinks) mod
 * (W − sinks). Words: ring, x, start (address of one i32), B, W, T, row bytes, sinks.
 */
export function ringWrite(args: usize, thread: i32, threads: i32): void {
  const ring = address(args, 0);
  const x = address(args, 1);
  const start = load<i32>(address(args, 2));
  const width = word(args, 4);
  const tokens = word(args, 5);
  const rowBytes = <usize>word(args, 6);
  const sinks = word(args, 7);
  if (start < 0 || start > i32.MAX_VALUE - tokens) {
    if (thread == 0) reportError(cacheRangeError, start);
    return;
  }
  const rows = word(args, 3) * tokens;
  const end = shareEnd(rows, 1, thread, threads);
  for (let r = shareStart(rows, 1, thread, threads); r < end; r++) {
    const to = (r / tokens) * width + ringRow(start + (r % tokens), width, sinks);
    memory.copy(ring + <usize>to * rowBytes, x + <usize>r * rowBytes, rowBytes);
  }
}

/** Row of token s in a ring. */
// @ts-ignore: decorator
@inline
export function ringRow(s: i32, width: i32, sinks: i32): i32 {
  return s < sinks ? s : sinks + ((s - sinks) % (width - sinks));
}
