// The smoothed slope of rounding to the levels of a format: graph/ops/dge.ts has the formula.
//
// Levels of integers and minifloats need no table. By symmetry only |z| matters: with 2^e ≤ |z| < 2^(e+1) the levels
// around it are d = max(2^e, smallest normal) · 2^−m apart (for integers always one unit), and u = |2 frac(|z| / d) − 1|.
// z and u are f64, since the slope is steep midway between two levels; u^(1/k − 1) = e^((1/k − 1) ln u) is f32.
//
// Words: x, dy, dx, rows, columns, exponent mask (0: integers), smallest normal or unit, 2^−m or 1, cap, unused,
// 1/k − 1, 1/k, the lowest and the highest z that count as inside, as f64 (two words each), source description of the
// packed rounding of x.

import { address, at, loadOne, real, storeOne, word } from '../common/args';
import { exp4, log4 } from '../common/math';
import { shareEnd, shareStart } from '../common/share';
import { sourceGroup, sourceScale, sourceTensorScale } from './matmul-decode';

const sourceAt: usize = 72;

/** |2 frac(a) − 1| of two numbers. */
// @ts-ignore: decorator
@inline
function fromMiddle(a: v128): v128 {
  const fraction = f64x2.sub(a, f64x2.floor(a));
  return f64x2.abs(f64x2.sub(f64x2.add(fraction, fraction), f64x2.splat(1)));
}

/** Masks of two f64 comparisons as one of four f32. */
// @ts-ignore: decorator
@inline
function narrowed(low: v128, high: v128): v128 {
  return v128.shuffle<i32>(low, high, 0, 2, 4, 6);
}

// @ts-ignore: decorator
@inline
function joined(low: v128, high: v128): v128 {
  return v128.shuffle<i32>(f32x4.demote_f64x2_zero(low), f32x4.demote_f64x2_zero(high), 0, 1, 4, 5);
}

// @ts-ignore: decorator
@inline
function upper(v: v128): v128 {
  return f64x2.promote_low_f32x4(v128.shuffle<i32>(v, v, 2, 3, 2, 3));
}

// @ts-ignore: decorator
@inline
function isInside(args: usize, z: v128): v128 {
  return v128.and(f64x2.ge(z, v128.load64_splat(args, 56)), f64x2.le(z, v128.load64_splat(args, 64)));
}

// @ts-ignore: decorator
@inline
function slope4(args: usize, x: v128, inverse: v128): v128 {
  const low = f64x2.mul(f64x2.promote_low_f32x4(x), inverse);
  const high = f64x2.mul(upper(x), inverse);
  const z = f32x4.abs(joined(low, high));
  const binade = v128.and(z, v128.load32_splat(args, 20));
  const width = f32x4.mul(f32x4.max(binade, v128.load32_splat(args, 24)), v128.load32_splat(args, 28));
  const perWidth = f32x4.div(f32x4.splat(1), width); // exact: a power of two
  const lowU = fromMiddle(f64x2.mul(f64x2.abs(low), f64x2.promote_low_f32x4(perWidth)));
  const highU = fromMiddle(f64x2.mul(f64x2.abs(high), upper(perWidth)));
  const exponent = f32x4.splat(<f32>load<f64>(args, 40));
  const factor = f32x4.splat(<f32>load<f64>(args, 48));
  const power = exp4(f32x4.mul(log4(joined(lowU, highU)), exponent));
  const slope = f32x4.min(f32x4.mul(power, factor), v128.load32_splat(args, 32));
  return v128.and(slope, narrowed(isInside(args, low), isInside(args, high)));
}

export function dgeBackward(args: usize, thread: i32, threads: i32): void {
  const rows = word(args, 3);
  const columns = word(args, 4);
  const source = args + sourceAt;
  const group = min(sourceGroup(source), columns);
  const tensorScale = <f64>sourceTensorScale(source);
  const end = shareEnd(rows, 1, thread, threads);
  for (let r = shareStart(rows, 1, thread, threads); r < end; r++) {
    for (let c = 0; c < columns; c += group) {
      const scale = <f64>sourceScale(source, r, c / group) * tensorScale;
      // A block of zeros has no scale: its values lie on the level 0.
      const inverse = f64x2.splat(scale == 0 ? 0 : 1 / scale);
      const offset = (<usize>(r * columns + c)) << 2;
      const x = address(args, 0) + offset;
      const dy = address(args, 1) + offset;
      const dx = address(args, 2) + offset;
      const count = min(group, columns - c);
      let i = 0;
      for (; i + 4 <= count; i += 4)
        v128.store(at(dx, i), f32x4.mul(slope4(args, v128.load(at(x, i)), inverse), v128.load(at(dy, i))));
      for (; i < count; i++) storeOne(at(dx, i), f32x4.mul(slope4(args, loadOne(at(x, i)), inverse), loadOne(at(dy, i))));
    }
  }
}
