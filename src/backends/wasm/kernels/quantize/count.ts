// bfloat16 to 4-bit codes by counting thresholds: E2M1, and integers from −7 to 7, with one step a tile.
//
// The reference compares |x| with fl(step × midpoint) for each of the 7 midpoints; ties go to the even code. Magnitudes
// of bfloat16 order like their 15 bits, so each comparison is one of integers, 8 values at a time, with the threshold
// rounded down to bfloat16 once a tile: |x| > T ⟺ bits(x) > bits(T) >> 16, and |x| ≥ T ⟺ bits(x) > (bits(T) − 1) >> 16.
// Libraries compare a rounded quotient or product with the midpoint instead. Only the bfloat16 nearest to
// step × midpoint can be decided otherwise than by that comparison, so it is tried by the library's own arithmetic.

import { storeNibbles } from './pack';
import { ruleAbsmax, ruleTransformerEngine } from './scale';

/** Steps below it are left to encode.ts: thresholds stay clear of subnormal numbers. */
const smallestStep: f32 = 7.888609052210118e-31;

/** Whether all `count` steps of a row suit: large enough, or 0 where that means codes of zero. */
export function countable(rule: i32, steps: usize, count: i32): bool {
  let bad = i32x4.splat(0);
  const zeroIsBad = i32x4.splat(rule > ruleAbsmax ? -1 : 0);
  const last = steps + (<usize>count << 2);
  // the last vector stands at the end and repeats some
  for (let p = steps; p < last; p += 16) {
    const step = v128.load(count < 4 ? p : min(p, last - 16));
    const isBad = v128.or(f32x4.gt(step, f32x4.splat(0)), zeroIsBad);
    bad = v128.or(bad, v128.and(isBad, f32x4.lt(step, f32x4.splat(smallestStep))));
  }
  if (count < 4) bad = i32x4.replace_lane(bad, 3, 0);
  if (count < 3) bad = i32x4.replace_lane(bad, 2, 0);
  if (count < 2) bad = i32x4.replace_lane(bad, 1, 0);
  return !v128.any_true(bad);
}

/** Largest bfloat16 magnitudes, as integers, that stay below the midpoints; midpoints 1 and 3 belong to the code above. */
// @ts-ignore: decorator
@inline
function thresholds(rule: i32, midpoints: v128, step: v128): v128 {
  const inclusive = i32x4(0, -1, 0, -1);
  const y = f32x4.mul(midpoints, step);
  if (rule <= ruleAbsmax) return i32x4.shr_u(i32x4.add(y, inclusive), 16);
  const nearest = i32x4.shr_u(i32x4.add(y, i32x4.splat(0x8000)), 16);
  const x = i32x4.shl(nearest, 16);
  let t: v128;
  if (rule == ruleTransformerEngine) t = f32x4.mul(x, f32x4.div(f32x4.splat(1), step));
  else t = f32x4.div(x, step);
  const above = v128.or(f32x4.gt(t, midpoints), v128.and(f32x4.eq(t, midpoints), inclusive));
  return i32x4.add(nearest, above);
}

/** Minus the number of thresholds below each magnitude. */
// @ts-ignore: decorator
@inline
function count(a: v128, t0: v128, t1: v128, t2: v128, t3: v128, t4: v128, t5: v128, t6: v128): v128 {
  const low = i16x8.add(i16x8.gt_s(a, t0), i16x8.gt_s(a, t1));
  const middle = i16x8.add(i16x8.gt_s(a, t2), i16x8.gt_s(a, t3));
  const high = i16x8.add(i16x8.gt_s(a, t4), i16x8.gt_s(a, t5));
  return i16x8.add(i16x8.add(low, middle), i16x8.add(high, i16x8.gt_s(a, t6)));
}

/** The code of each value from minus its magnitude code: sign and magnitude, or two's complement. */
// @ts-ignore: decorator
@inline
function signed(float: bool, x: v128, n: v128): v128 {
  if (float) return i16x8.sub(v128.and(i16x8.shr_u(x, 12), i16x8.splat(8)), n);
  const positive = i16x8.ge_s(x, i16x8.splat(0));
  return v128.and(i16x8.sub(v128.xor(n, positive), positive), i16x8.splat(15));
}

/** Codes of a row of `cols` values; tiles of `tileCols` (both multiples of 16) have their own steps. `float`: E2M1. */
// @ts-ignore: decorator
@inline
export function encodeRowByCounting(
  float: bool,
  rule: i32,
  x: usize,
  cols: i32,
  tileCols: i32,
  steps: usize,
  out: usize,
): void {
  const low = float ? f32x4(0.25, 0.75, 1.25, 1.75) : f32x4(0.5, 1.5, 2.5, 3.5);
  const high = float ? f32x4(2.5, 3.5, 5, Infinity) : f32x4(4.5, 5.5, 6.5, Infinity);
  const magnitude = i16x8.splat(0x7fff);
  for (let first = 0; first < cols; first += tileCols, steps += 4) {
    const step = v128.load32_splat(steps);
    let t = i16x8.narrow_i32x4_s(thresholds(rule, low, step), thresholds(rule, high, step));
    t = v128.bitselect(magnitude, t, f32x4.eq(step, f32x4.splat(0)));
    const t0 = i8x16.shuffle(t, t, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1);
    const t1 = i8x16.shuffle(t, t, 2, 3, 2, 3, 2, 3, 2, 3, 2, 3, 2, 3, 2, 3, 2, 3);
    const t2 = i8x16.shuffle(t, t, 4, 5, 4, 5, 4, 5, 4, 5, 4, 5, 4, 5, 4, 5, 4, 5);
    const t3 = i8x16.shuffle(t, t, 6, 7, 6, 7, 6, 7, 6, 7, 6, 7, 6, 7, 6, 7, 6, 7);
    const t4 = i8x16.shuffle(t, t, 8, 9, 8, 9, 8, 9, 8, 9, 8, 9, 8, 9, 8, 9, 8, 9);
    const t5 = i8x16.shuffle(t, t, 10, 11, 10, 11, 10, 11, 10, 11, 10, 11, 10, 11, 10, 11, 10, 11);
    const t6 = i8x16.shuffle(t, t, 12, 13, 12, 13, 12, 13, 12, 13, 12, 13, 12, 13, 12, 13, 12, 13);
    const end = x + (<usize>min(tileCols, cols - first) << 1);
    for (; x < end; x += 32, out += 8) {
      const x0 = v128.load(x);
      const x1 = v128.load(x, 16);
      const n0 = count(v128.and(x0, magnitude), t0, t1, t2, t3, t4, t5, t6);
      const n1 = count(v128.and(x1, magnitude), t0, t1, t2, t3, t4, t5, t6);
      storeNibbles(out, i8x16.narrow_i16x8_u(signed(float, x0, n0), signed(float, x1, n1)));
    }
  }
}
