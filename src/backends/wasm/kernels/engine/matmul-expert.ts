// Products with an expert chosen for every row.
//
// expertSort lists the slots (row, choice) of every expert by a counting sort; expertMatmul then makes one product an
// expert, over the rows in its list, reading A and writing C through the list. Every thread owns columns of C.
//
// expertSort words: indices, slots, experts, list. List: experts + 1 offsets, then the slots in order of expert.
// expertMatmul words: as matmulF32, with batch = experts, the list at word 15 and at word 7 the number of slots that
// share a row of A.

import { shareEnd, shareStart } from '../common/share.ts';
import { expertIndexError } from '../../../data-error-codes';
import { reportError } from './error.ts';
import { sourceAlong, sourceKind } from './matmul-decode.ts';
import { fewRows, product, smallRows, threadScratch } from './matmul-f32.ts';

/** Expert of a slot; one out of range is reported and counts as the first. */
function expertOf(indices: usize, slot: i32, experts: i32): i32 {
  const e = load<i32>(indices + ((<usize>slot) << 2));
  if (e >= 0 && e < experts) return e;
  reportError(expertIndexError, e);
  return 0;
}

export function expertSort(args: usize, thread: i32, threads: i32): void {
  if (thread != 0) return;
  const indices = load<usize>(args);
  const slots = load<i32>(args + 4);
  const experts = load<i32>(args + 8);
  const offsets = load<usize>(args + 12);
  const list = offsets + ((<usize>(experts + 1)) << 2);
  memory.fill(offsets, 0, (<usize>(experts + 1)) << 2);
  for (let i = 0; i < slots; i++) {
    const at = offsets + ((<usize>expertOf(indices, i, experts)) << 2);
    store<i32>(at, load<i32>(at) + 1);
  }
  let start = 0;
  for (let e = 0; e <= experts; e++) {
    const at = offsets + ((<usize>e) << 2);
    const count = load<i32>(at);
    store<i32>(at, start);
    start += count;
  }
  // Placing the slots moves every offset to the start of the next expert; afterwards they are moved back.
  for (let i = 0; i < slots; i++) {
    const at = offsets + ((<usize>expertOf(indices, i, experts)) << 2);
    const place = load<i32>(at);
    store<i32>(list + ((<usize>place) << 2), i);
    store<i32>(at, place + 1);
  }
  for (let e = experts; e > 0; e--) {
    const at = offsets + ((<usize>e) << 2);
    store<i32>(at, load<i32>(at - 4));
  }
  store<i32>(offsets, 0);
}

export function expertMatmul(args: usize, thread: i32, threads: i32): void {
  const experts = load<i32>(args);
  const columns = load<i32>(args + 8);
  const divisor = load<i32>(args + 28);
  const step = load<usize>(args + 40);
  const own = load<usize>(args + 56) + <usize>thread * threadScratch;
  const offsets = load<usize>(args + 60);
  const list = offsets + ((<usize>(experts + 1)) << 2);
  const dense = sourceKind(args + 64) == sourceAlong;
  const a = load<usize>(args + 16);
  const c = load<usize>(args + 44);
  const n0 = shareStart(columns, 8, thread, threads);
  const n1 = shareEnd(columns, 8, thread, threads);
  if (n0 >= n1) return;
  for (let e = 0; e < experts; e++) {
    const first = load<i32>(offsets + ((<usize>e) << 2));
    const rows = load<i32>(offsets + ((<usize>(e + 1)) << 2)) - first;
    const slots = list + ((<usize>first) << 2);
    const b = dense ? load<usize>(args + 32) + <usize>e * step : 0;
    const row = dense ? 0 : <i32>(<usize>e * step);
    if (rows == 0) continue;
    if (rows <= smallRows) fewRows(args, a, b, row, c, rows, n0, n1, own, slots, divisor);
    else product(args, a, b, row, c, 0, rows, n0, n1, own, slots, divisor, false);
  }
}
