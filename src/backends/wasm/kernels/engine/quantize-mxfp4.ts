// The op quantize for MXFP4 by vectors: E2M1 in groups of 32 with E8M0 scales, the rules and roundings of training.
//
// The same codes as quantize-spec.ts. Codes of a magnitude follow from comparing it with seven numbers. All of them are
// products of a constant and the power of two of the scale, which are exact, so the constants are rounded once: thresholds
// fl(fl(step) · midpoint) as in the reference, and for stochastic rounding the smallest f32 from each level on, since
// brackets are found by exact quotients there. Groups whose scales are so small that products would leave the normal
// range go the other kernel's way: they are marked and `quantizeSpec`'s functions redo them.
//
// Nearest even under power-of-two scales alone needs no comparisons: quantize-mxfp4-even.ts.
//
// Words: x, rows, columns, codes, scales, tensor scale (address), rule, rounding, seed, stream, step (address or 0), bits
// (address or 0), bound, 4/3 or 1 as f32, scratch of the threads (256 bytes each), then from word 16 on the words of
// quantizeSpec.

import { nonFiniteError } from '../../../data-error-codes';
import { address, at, real, word } from '../common/args';
import { shareEnd, shareStart } from '../common/share';
import { e8m0Code } from '../quantize/scale';
import { reportError } from './error';
import { encodeEven, evenGroups, largest, lowestCode } from './quantize-mxfp4-even';
import { encodeTileRow, fitTile, packRow, questCode } from './quantize-spec';
import { halvesOfSixteen } from './random-lanes';

const scaleE8m0: i32 = 3;
const ruleQuest: i32 = 8;
const nearestEven: i32 = 0;
const halfToZero: i32 = 3;
const stochastic: i32 = 5;
const redo: i32 = 16;

const levels: usize = memory.data<f32>([0, 0.5, 1, 1.5, 2, 3, 4, 6]);
const middles: usize = memory.data<f32>([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5]);

/** Constants of a run: seven numbers to compare magnitudes with, at scale 1. */
function fillThresholds(to: usize, unit: f32, rounding: i32): void {
  for (let i = 0; i < 7; i++) {
    if (rounding != stochastic) {
      store<f32>(at(to, i), <f32>(<f64>unit * <f64>load<f32>(at(middles, i))));
      continue;
    }
    const exact = <f64>unit * <f64>load<f32>(at(levels, i + 1));
    const rounded = <f32>exact;
    const up = <f64>rounded < exact ? 1 : 0;
    store<f32>(at(to, i), reinterpret<f32>(reinterpret<i32>(rounded) + up));
  }
}

/** Population standard deviation of 32 numbers, in the order of the reference. */
function deviation(x: usize): f64 {
  let sum: f64 = 0;
  for (let i = 0; i < 32; i++) sum += <f64>load<f32>(at(x, i));
  const mean = sum / 32;
  let square: f64 = 0;
  for (let i = 0; i < 32; i++) {
    const d = <f64>load<f32>(at(x, i)) - mean;
    square += d * d;
  }
  return Math.sqrt(square / 32);
}

/**
 * Population standard deviations of four groups of 32 numbers, as f64 at `to`, each in the order of the reference. Four at a
 * time, since a sum of a group waits for every addition.
 */
function deviations(x: usize, to: usize): void {
  let sum0 = f64x2.splat(0);
  let sum1 = sum0;
  for (let i = 0; i < 32; i++) {
    const from = at(x, i);
    sum0 = f64x2.add(sum0, pair(from));
    sum1 = f64x2.add(sum1, pair(from + 256));
  }
  const count = f64x2.splat(32);
  const mean0 = f64x2.div(sum0, count);
  const mean1 = f64x2.div(sum1, count);
  let square0 = f64x2.splat(0);
  let square1 = square0;
  for (let i = 0; i < 32; i++) {
    const from = at(x, i);
    const d0 = f64x2.sub(pair(from), mean0);
    const d1 = f64x2.sub(pair(from + 256), mean1);
    square0 = f64x2.add(square0, f64x2.mul(d0, d0));
    square1 = f64x2.add(square1, f64x2.mul(d1, d1));
  }
  v128.store(to, f64x2.sqrt(f64x2.div(square0, count)));
  v128.store(to, f64x2.sqrt(f64x2.div(square1, count)), 16);
}

/** A number and that of the next group. */
// @ts-ignore: decorator
@inline
function pair(x: usize): v128 {
  return f64x2.promote_low_f32x4(v128.load32_lane(x, v128.load32_zero(x), 1, 128));
}

/** How many of the seven thresholds, times the scale, each magnitude is above (or, with `reach`, reaches). */
// @ts-ignore: decorator
@inline
function count(a: v128, thresholds: usize, scale: v128, reach: bool): v128 {
  let n = i32x4.splat(0);
  for (let i = 0; i < 7; i++) {
    const t = f32x4.mul(v128.load32_splat(at(thresholds, i)), scale);
    n = i32x4.sub(n, reach ? f32x4.ge(a, t) : f32x4.gt(a, t));
  }
  return n;
}

/** The same for nearest even: at a threshold a magnitude goes up when the code below is odd. */
// @ts-ignore: decorator
@inline
function countEven(a: v128, thresholds: usize, scale: v128): v128 {
  let n = i32x4.splat(0);
  for (let i = 0; i < 7; i++) {
    const t = f32x4.mul(v128.load32_splat(at(thresholds, i)), scale);
    n = i32x4.sub(n, (i & 1) != 0 ? f32x4.ge(a, t) : f32x4.gt(a, t));
  }
  return n;
}

/** Level of a code below 7, in lanes: 0.5 · (0, 1, 2, 3, 4, 6, 8), and the distance to the next. */
// @ts-ignore: decorator
@inline
function levelOf(n: v128): v128 {
  const doubled = i32x4.sub(
    i32x4.sub(n, i32x4.gt_s(n, i32x4.splat(4))),
    i32x4.gt_s(n, i32x4.splat(5)),
  );
  return f32x4.mul(f32x4.convert_i32x4_s(doubled), f32x4.splat(0.5));
}

// @ts-ignore: decorator
@inline
function gapOf(n: v128): v128 {
  const wide = v128.and(i32x4.gt_s(n, i32x4.splat(3)), i32x4.splat(0x00800000));
  const wider = v128.and(i32x4.gt_s(n, i32x4.splat(5)), i32x4.splat(0x00800000));
  return i32x4.add(i32x4.splat(0x3f000000), i32x4.add(wide, wider)); // 0.5, 1 from level 2 on, 2 from level 4 on
}

export function quantizeMxfp4(args: usize, thread: i32, threads: i32): void {
  const x = address(args, 0);
  const rows = word(args, 1);
  const columns = word(args, 2);
  const codes = address(args, 3);
  const scales = address(args, 4);
  const rule = word(args, 6);
  const rounding = word(args, 7);
  const seed = word(args, 8);
  const stream = word(args, 9);
  const step = address(args, 10) == 0 ? 0 : load<i32>(address(args, 10));
  const bits = address(args, 11);
  const bound = real(args, 12);
  const unit = real(args, 13);
  const scratch = address(args, 14) + (<usize>thread << 8);
  const random = scratch + 32;
  if (thread == 0) store<f32>(address(args, 5), unit);
  fillThresholds(scratch, unit, rounding);
  const even = rounding == nearestEven && unit == 1;
  const groups = columns >> 5;
  const sign = i32x4.splat(0x80000000);
  const simple = even && rule < ruleQuest && bits == 0;
  const last = shareEnd(rows, 1, thread, threads) * groups;
  const four = scratch + 192;
  let known = -4; // first of four groups whose deviations stand there
  for (let index = shareStart(rows, 1, thread, threads) * groups; index < last; index++) {
    if (simple) index = evenGroups(x, codes, scales, rule, index, last);
    if (index == last) return;
    const r = index / groups;
    const from = at(x, index << 5);
    const to = codes + (<usize>index << 4);
    const amax = largest(from);
    if (amax >= 0x7f800000) {
      reportError(nonFiniteError, r);
      return;
    }
    if (rule >= ruleQuest && index >= known + 4 && index + 4 <= last) {
      deviations(from, four);
      known = index;
    }
    const spread = rule < ruleQuest ? 0 : index < known + 4 ? load<f64>(four + (<usize>(index - known) << 3)) : deviation(from);
    const code =
      rule >= ruleQuest
        ? questCode(scaleE8m0, rule, spread)
        : e8m0Code(rule, reinterpret<f32>(amax), 2, 0, 0);
    store<u8>(scales + <usize>index, <u8>code);
    if (code < lowestCode) {
      redoGroup(args + (redo << 2), from, r, (index % groups) << 5, index, unit, to, random, step);
      if (bits != 0) store<u32>(at(bits, index), markGroup(from, decode(code) * unit * bound));
      continue;
    }
    // the inverse of 2^127 would be subnormal
    if (even && code < 254) {
      encodeEven(from, code, to);
      if (bits != 0) store<u32>(at(bits, index), markGroup(from, decode(code) * bound));
      continue;
    }
    const scale = f32x4.splat(decode(code));
    for (let i = 0; i < 32; i += 8) {
      if (rounding == stochastic && (i & 15) == 0)
        halvesOfSixteen(seed, stream, step, <u64>index * 32 + <u64>i, random);
      for (let k = 0; k < 2; k++) {
        const v = v128.load(at(from, i + 4 * k));
        const a = v128.andnot(v, sign);
        let n: v128;
        if (rounding == stochastic) {
          n = count(a, scratch, scale, true);
          const h = f32x4.convert_i32x4_u(v128.load_ext<u16>(random + <usize>(((i & 15) + 4 * k) << 1)));
          const u = f32x4.add(f32x4.mul(h, f32x4.splat(1.52587890625e-5)), f32x4.splat(7.62939453125e-6));
          const z = f32x4.add(levelOf(n), f32x4.mul(u, gapOf(n)));
          const threshold = f32x4.mul(f32x4.mul(f32x4.splat(unit), z), scale);
          // code 7 is the last
          const up = v128.andnot(f32x4.gt(a, threshold), i32x4.eq(n, i32x4.splat(7)));
          n = i32x4.sub(n, up);
        } else if (rounding == halfToZero) n = count(a, scratch, scale, false);
        else n = countEven(a, scratch, scale);
        n = v128.or(n, i32x4.shl(i32x4.shr_u(v, 31), 3));
        store<u16>(to + <usize>((i >> 1) + 2 * k), <u16>nibbles(n));
      }
    }
    if (bits != 0) store<u32>(at(bits, index), markGroup(from, decode(code) * unit * bound));
  }
}

// @ts-ignore: decorator
@inline
function nibbles(n: v128): i32 {
  const pairs = v128.or(n, i64x2.shr_u(n, 28)); // lanes 0 and 2 hold two nibbles
  return (i32x4.extract_lane(pairs, 0) & 0xff) | ((i32x4.extract_lane(pairs, 2) & 0xff) << 8);
}

/** Value of an E8M0 code. */
// @ts-ignore: decorator
@inline
function decode(code: u32): f32 {
  return reinterpret<f32>(code == 0 ? 0x00400000 : code << 23);
}

/** One bit for each of 32 numbers: |x| < limit. */
function markGroup(x: usize, limit: f32): u32 {
  const sign = i32x4.splat(0x80000000);
  const top = f32x4.splat(limit);
  let bits: u32 = 0;
  for (let i = 0; i < 32; i += 4)
    bits |= <u32>i32x4.bitmask(f32x4.lt(v128.andnot(v128.load(at(x, i)), sign), top)) << i;
  return bits;
}

/** One group by the general kernel. */
function redoGroup(
  args: usize,
  x: usize,
  r: i32,
  first: i32,
  index: i32,
  unit: f32,
  to: usize,
  scratch: usize,
  step: i32,
): void {
  fitTile(args, x, 0, 1, 32, index, unit, scratch);
  encodeTileRow(args, x, r, first, 32, scratch, scratch + 16, step);
  packRow(scratch + 16, 32, 4, to);
}
