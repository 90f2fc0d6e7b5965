// Sums over a row of f32, shared by the kernels that reduce, in an order that is fixed.
//
// Plain sums cancel, so every element is added in f64. Sums of squares do not: runs of 1024 are summed in four f32
// vectors, runs in f64, which keeps the error near one rounding of the result for rows of any length.

import { at, maxLanes, sumLanes } from '../common/args';

const run: i32 = 1024;

// @ts-ignore: decorator
@inline
function squared(x: v128, shift: v128): v128 {
  const d = f32x4.sub(x, shift);
  return f32x4.mul(d, d);
}

/** Σ (x − shift)² */
export function sumSquares(x: usize, count: i32, shift: f32): f64 {
  let total: f64 = 0;
  const s = f32x4.splat(shift);
  for (let start = 0; start < count; start += run) {
    const end = min(start + run, count);
    let a = f32x4.splat(0);
    let b = a;
    let c = a;
    let d = a;
    let i = start;
    for (; i + 16 <= end; i += 16) {
      const p = at(x, i);
      a = f32x4.add(a, squared(v128.load(p), s));
      b = f32x4.add(b, squared(v128.load(p, 16), s));
      c = f32x4.add(c, squared(v128.load(p, 32), s));
      d = f32x4.add(d, squared(v128.load(p, 48), s));
    }
    for (; i + 4 <= end; i += 4) a = f32x4.add(a, squared(v128.load(at(x, i)), s));
    let tail: f32 = 0;
    for (; i < end; i++) tail += f32x4.extract_lane(squared(v128.load32_splat(at(x, i)), s), 0);
    total += <f64>(sumLanes(f32x4.add(f32x4.add(a, b), f32x4.add(c, d))) + tail);
  }
  return total;
}

export function sumRow(x: usize, count: i32): f64 {
  let a = f64x2.splat(0);
  let b = a;
  let i = 0;
  for (; i + 4 <= count; i += 4) {
    const v = v128.load(at(x, i));
    a = f64x2.add(a, f64x2.promote_low_f32x4(v));
    b = f64x2.add(b, f64x2.promote_low_f32x4(v128.shuffle<i32>(v, v, 2, 3, 2, 3)));
  }
  const sum = f64x2.add(a, b);
  let total = f64x2.extract_lane(sum, 0) + f64x2.extract_lane(sum, 1);
  for (; i < count; i++) total += <f64>load<f32>(at(x, i));
  return total;
}

/** Σ x · y */
export function dotRow(x: usize, y: usize, count: i32): f64 {
  let a = f64x2.splat(0);
  let b = a;
  let i = 0;
  for (; i + 4 <= count; i += 4) {
    const u = v128.load(at(x, i));
    const v = v128.load(at(y, i));
    a = f64x2.add(a, f64x2.mul(f64x2.promote_low_f32x4(u), f64x2.promote_low_f32x4(v)));
    const p = f64x2.promote_low_f32x4(v128.shuffle<i32>(u, u, 2, 3, 2, 3));
    b = f64x2.add(b, f64x2.mul(p, f64x2.promote_low_f32x4(v128.shuffle<i32>(v, v, 2, 3, 2, 3))));
  }
  const sum = f64x2.add(a, b);
  let total = f64x2.extract_lane(sum, 0) + f64x2.extract_lane(sum, 1);
  for (; i < count; i++) total += <f64>load<f32>(at(x, i)) * <f64>load<f32>(at(y, i));
  return total;
}

/** Largest element; NaN when there is one. */
export function maxRow(x: usize, count: i32): f32 {
  let i = 0;
  let best = load<f32>(x);
  if (count >= 4) {
    let m = v128.load(x);
    for (i = 4; i + 4 <= count; i += 4) m = f32x4.max(m, v128.load(at(x, i)));
    best = maxLanes(m);
  }
  for (; i < count; i++) best = max(best, load<f32>(at(x, i)));
  return best;
}

/** Index of the first largest element; 0 when the first element is NaN, later NaNs are passed over. */
export function argmaxRow(x: usize, count: i32): i32 {
  const first = load<f32>(x);
  let m = f32x4.splat(first);
  let i = 0;
  for (; i + 4 <= count; i += 4) m = f32x4.pmax(m, v128.load(at(x, i)));
  let best = maxLanes(m);
  for (; i < count; i++) {
    const v = load<f32>(at(x, i));
    if (v > best) best = v;
  }
  const target = f32x4.splat(best);
  for (i = 0; i + 4 <= count; i += 4) {
    const hits = i32x4.bitmask(f32x4.eq(v128.load(at(x, i)), target));
    if (hits != 0) return i + ctz(hits);
  }
  for (; i < count; i++) if (load<f32>(at(x, i)) == best) return i;
  return 0;
}
