// Rounding to a grid whose step is an operand, and its gradients.
//
//   s = max(step, ε),  z = x / s,  level(z) = rne(clip(z, low, high) − shift) + shift,  y = s · level(z)
//
// Everything is f64, two numbers at once: an f32 quotient can land on a tie that x / s does not, and would then be
// rounded to another level than the reference rounds it to.
//
// Words of both kernels: addresses (x, step, y; or x, step, dy, dx, shares), low, high, shift, edge, ε as f64 (two words
// each), rank, then for each dimension, outermost first: size, stride of x (not read: x is contiguous), stride of step
// (0 repeats; innermost 0 or 1).

import { address, at, loadOne, storeOne, word } from '../common/args';
import { shareEnd, shareStart } from '../common/share';

const unit: i32 = 16;
const lowAt: usize = 0;
const highAt: usize = 8;
const shiftAt: usize = 16;
const edgeAt: usize = 24;
const epsilonAt: usize = 32;
const rankAt: usize = 40;
const dimensionsAt: usize = 44;

// @ts-ignore: decorator
@inline
function grid(words: usize, offset: usize): v128 {
  return v128.load64_splat(words + offset);
}

// @ts-ignore: decorator
@inline
function lower(v: v128): v128 {
  return f64x2.promote_low_f32x4(v);
}

// @ts-ignore: decorator
@inline
function upper(v: v128): v128 {
  return f64x2.promote_low_f32x4(v128.shuffle<i32>(v, v, 2, 3, 2, 3));
}

/** Two pairs of f64 as four f32. */
// @ts-ignore: decorator
@inline
function joined(low: v128, high: v128): v128 {
  return v128.shuffle<i32>(f32x4.demote_f64x2_zero(low), f32x4.demote_f64x2_zero(high), 0, 1, 4, 5);
}

// @ts-ignore: decorator
@inline
function level(words: usize, z: v128): v128 {
  const clipped = f64x2.min(f64x2.max(z, grid(words, lowAt)), grid(words, highAt));
  const shift = grid(words, shiftAt);
  return f64x2.add(f64x2.nearest(f64x2.sub(clipped, shift)), shift);
}

// @ts-ignore: decorator
@inline
function rounded2(words: usize, x: v128, step: v128): v128 {
  const s = f64x2.max(step, grid(words, epsilonAt));
  return f64x2.mul(s, level(words, f64x2.div(x, s)));
}

// @ts-ignore: decorator
@inline
function rounded(words: usize, x: v128, step: v128): v128 {
  return joined(rounded2(words, lower(x), lower(step)), rounded2(words, upper(x), upper(step)));
}

// @ts-ignore: decorator
@inline
function isInside(words: usize, z: v128): v128 {
  return v128.and(f64x2.ge(z, grid(words, lowAt)), f64x2.le(z, grid(words, highAt)));
}

// @ts-ignore: decorator
@inline
function quotient(words: usize, x: v128, step: v128): v128 {
  return f64x2.div(x, f64x2.max(step, grid(words, epsilonAt)));
}

/** What dy is multiplied by for the step's gradient. */
// @ts-ignore: decorator
@inline
function share2(words: usize, z: v128): v128 {
  const q = level(words, z);
  return v128.bitselect(f64x2.sub(q, z), f64x2.mul(grid(words, edgeAt), q), isInside(words, z));
}

/** Four results of dx and of the shares, or the first of each. */
// @ts-ignore: decorator
@inline
function gradients4(words: usize, x: v128, step: v128, dy: v128, dx: usize, shares: usize, single: bool): void {
  const low = quotient(words, lower(x), lower(step));
  const high = quotient(words, upper(x), upper(step));
  // The upper halves of f64 masks, all ones or zeros, stand for the whole.
  const inside = v128.shuffle<i32>(isInside(words, low), isInside(words, high), 0, 2, 4, 6);
  const toX = v128.and(dy, inside);
  const toShares = joined(
    f64x2.mul(lower(dy), share2(words, low)),
    f64x2.mul(upper(dy), share2(words, high)),
  );
  if (single) {
    storeOne(dx, toX);
    storeOne(shares, toShares);
  } else {
    v128.store(dx, toX);
    v128.store(shares, toShares);
  }
}

function forwardRow(words: usize, x: usize, step: usize, fixed: bool, y: usize, count: i32): void {
  const s = loadOne(step);
  let i = 0;
  for (; i + 4 <= count; i += 4)
    v128.store(at(y, i), rounded(words, v128.load(at(x, i)), fixed ? s : v128.load(at(step, i))));
  for (; i < count; i++) storeOne(at(y, i), rounded(words, loadOne(at(x, i)), fixed ? s : loadOne(at(step, i))));
}

function backwardRow(
  words: usize,
  x: usize,
  step: usize,
  fixed: bool,
  dy: usize,
  dx: usize,
  shares: usize,
  count: i32,
): void {
  const s = loadOne(step);
  let i = 0;
  for (; i + 4 <= count; i += 4)
    gradients4(
      words,
      v128.load(at(x, i)),
      fixed ? s : v128.load(at(step, i)),
      v128.load(at(dy, i)),
      at(dx, i),
      at(shares, i),
      false,
    );
  for (; i < count; i++)
    gradients4(
      words,
      loadOne(at(x, i)),
      fixed ? s : loadOne(at(step, i)),
      loadOne(at(dy, i)),
      at(dx, i),
      at(shares, i),
      true,
    );
}

/** Offset, in elements, of the step for row r of all dimensions but the innermost. */
function stepOffset(words: usize, row: i32): i32 {
  let offset = 0;
  for (let d = word(words + rankAt, 0) - 2; d >= 0; d--) {
    const dimension = words + dimensionsAt + <usize>d * 12;
    const size = word(dimension, 0);
    offset += (row % size) * word(dimension, 2);
    row /= size;
  }
  return offset;
}

/** The rows of all dimensions but the innermost. */
function rowCount(words: usize): i32 {
  let rows = 1;
  for (let d = word(words + rankAt, 0) - 2; d >= 0; d--) rows *= word(words + dimensionsAt + <usize>d * 12, 0);
  return rows;
}

export function fakeQuantize(args: usize, thread: i32, threads: i32): void {
  const x = address(args, 0);
  const step = address(args, 1);
  const y = address(args, 2);
  const words = args + 12;
  const inner = words + dimensionsAt + <usize>(word(words + rankAt, 0) - 1) * 12;
  const count = word(inner, 0);
  const fixed = word(inner, 2) == 0;
  const rows = rowCount(words);
  if (rows == 1) {
    const start = shareStart(count, unit, thread, threads);
    const length = shareEnd(count, unit, thread, threads) - start;
    if (length > 0) forwardRow(words, at(x, start), fixed ? step : at(step, start), fixed, at(y, start), length);
    return;
  }
  const end = shareEnd(rows, 1, thread, threads);
  for (let r = shareStart(rows, 1, thread, threads); r < end; r++)
    forwardRow(words, at(x, r * count), at(step, stepOffset(words, r)), fixed, at(y, r * count), count);
}

export function fakeQuantizeBackward(args: usize, thread: i32, threads: i32): void {
  const x = address(args, 0);
  const step = address(args, 1);
  const dy = address(args, 2);
  const dx = address(args, 3);
  const shares = address(args, 4);
  const words = args + 20;
  const inner = words + dimensionsAt + <usize>(word(words + rankAt, 0) - 1) * 12;
  const count = word(inner, 0);
  const fixed = word(inner, 2) == 0;
  const rows = rowCount(words);
  if (rows == 1) {
    const start = shareStart(count, unit, thread, threads);
    const length = shareEnd(count, unit, thread, threads) - start;
    const s = fixed ? step : at(step, start);
    if (length > 0)
      backwardRow(words, at(x, start), s, fixed, at(dy, start), at(dx, start), at(shares, start), length);
    return;
  }
  const end = shareEnd(rows, 1, thread, threads);
  for (let r = shareStart(rows, 1, thread, threads); r < end; r++) {
    const i = r * count;
    backwardRow(words, at(x, i), at(step, stepOffset(words, r)), fixed, at(dy, i), at(dx, i), at(shares, i), count);
  }
}
