// The op quantize for MXFP4 by vectors: E2M1 in groups of 32 with E8M0 scales, the rules and roundings of training.
//
// The same codes as quantize-spec.ts. Codes of a magnitude follow from comparing it with seven numbers. All of them are
// products of a constant and the power of two of the scale, which are exact, so the constants are rounded once: thresholds
// fl(fl(step) · midpoint) as in the reference, and for stochastic rounding the smallest f32 from each level on, since
// brackets are found by exact quotients there. Groups whose scales are so small that products would leave the normal
// range go the other kernel's way: they are marked and `quantizeSpec`'s functions redo them.
//
// Nearest even under power-of-two scales alone needs no comparisons. With z = |x| / scale, a product by a power of two:
//   z < 1   the number of halves is the low bits of z + 2^22, whose last place is 1/2;
//   z ≥ 1   rounding the mantissa to one bit leaves exponent and mantissa bit as the code, 2 (e − 127) + m + 2;
// and 7 is the largest code. Lanes are narrowed to bytes and bytes to pairs of nibbles, a group at a time.
//
// Words: x, rows, columns, codes, scales, tensor scale (address), rule, rounding, seed, stream, step (address or 0), bits
// (address or 0), bound, 4/3 or 1 as f32, scratch of the threads (256 bytes each), then from word 16 on the words of
// quantizeSpec.

import { nonFiniteError } from '../../../data-error-codes';
import { address, at, real, word } from '../common/args';
import { shareEnd, shareStart } from '../common/share';
import { e8m0Code } from '../quantize/scale';
import { reportError } from './error';
import { encodeTileRow, fitTile, packRow, questCode } from './quantize-spec';
import { bitsOfEight } from './random-lanes';

const scaleE8m0: i32 = 3;
const ruleQuest: i32 = 8;
const nearestEven: i32 = 0;
const halfToZero: i32 = 3;
const stochastic: i32 = 5;
const redo: i32 = 16;
/** Below 2^-100 thresholds could be subnormal. */
const lowestCode: u32 = 27;

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

/** Largest magnitude of 32 numbers, as float bits. */
function largest(x: usize): u32 {
  const mask = i32x4.splat(0x7fffffff);
  let most = v128.and(v128.load(x), mask);
  for (let i = 4; i < 32; i += 4) most = i32x4.max_u(most, v128.and(v128.load(at(x, i)), mask));
  most = i32x4.max_u(most, v128.shuffle<i32>(most, most, 2, 3, 0, 1));
  return max<u32>(i32x4.extract_lane(most, 0), i32x4.extract_lane(most, 1));
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

// @ts-ignore: decorator
@inline
function evenCodes(x: usize, inverse: v128): v128 {
  const v = v128.load(x);
  const z = f32x4.mul(v128.and(v, i32x4.splat(0x7fffffff)), inverse);
  const halves = i32x4.sub(f32x4.add(z, f32x4.splat(4194304)), i32x4.splat(0x4a800000));
  const odd = v128.and(i32x4.shr_u(z, 22), i32x4.splat(1));
  const rounded = i32x4.shr_u(i32x4.add(i32x4.add(z, i32x4.splat(0x1fffff)), odd), 22);
  const n = i32x4.min_s(i32x4.sub(rounded, i32x4.splat(252)), i32x4.splat(7));
  const code = v128.bitselect(halves, n, f32x4.lt(z, f32x4.splat(1)));
  return v128.or(code, v128.and(i32x4.shr_u(v, 28), i32x4.splat(8)));
}

/** Sixteen codes as bytes of two, each in a lane of 16 bits. */
// @ts-ignore: decorator
@inline
function sixteenCodes(x: usize, inverse: v128): v128 {
  const low = i16x8.narrow_i32x4_s(evenCodes(x, inverse), evenCodes(x + 16, inverse));
  const high = i16x8.narrow_i32x4_s(evenCodes(x + 32, inverse), evenCodes(x + 48, inverse));
  const bytes = i8x16.narrow_i16x8_u(low, high);
  return v128.and(v128.or(bytes, i16x8.shr_u(bytes, 4)), i16x8.splat(0xff));
}

/** Codes of a group to nearest even; `inverse`: 1 / scale. */
// @ts-ignore: decorator
@inline
function encodeEven(x: usize, inverse: f32, to: usize): void {
  const all = f32x4.splat(inverse);
  v128.store(to, i8x16.narrow_i16x8_u(sixteenCodes(x, all), sixteenCodes(x + 64, all)));
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
  const end = shareEnd(rows, 1, thread, threads);
  for (let r = shareStart(rows, 1, thread, threads); r < end; r++) {
    for (let g = 0; g < groups; g++) {
      const index = r * groups + g;
      const from = at(x, index << 5);
      const to = codes + (<usize>index << 4);
      const amax = largest(from);
      if (amax >= 0x7f800000) {
        reportError(nonFiniteError, r);
        return;
      }
      const code =
        rule >= ruleQuest
          ? questCode(scaleE8m0, rule, deviation(from))
          : e8m0Code(rule, reinterpret<f32>(amax), 2, 0, 0);
      store<u8>(scales + <usize>index, <u8>code);
      if (code < lowestCode) {
        redoGroup(args + (redo << 2), from, r, g << 5, index, unit, to, random, step);
        if (bits != 0) store<u32>(at(bits, index), markGroup(from, decode(code) * unit * bound));
        continue;
      }
      // the inverse of 2^127 would be subnormal
      if (even && code < 254) {
        encodeEven(from, reinterpret<f32>((254 - code) << 23), to);
        if (bits != 0) store<u32>(at(bits, index), markGroup(from, decode(code) * bound));
        continue;
      }
      const scale = f32x4.splat(decode(code));
      for (let i = 0; i < 32; i += 8) {
        if (rounding == stochastic) bitsOfEight(seed, stream, step, <u64>index * 32 + <u64>i, random);
        for (let k = 0; k < 2; k++) {
          const v = v128.load(at(from, i + 4 * k));
          const a = v128.andnot(v, sign);
          let n: v128;
          if (rounding == stochastic) {
            n = count(a, scratch, scale, true);
            const u = f32x4.mul(
              f32x4.convert_i32x4_u(i32x4.shr_u(v128.load(random + <usize>(16 * k)), 8)),
              f32x4.splat(5.9604644775390625e-8),
            );
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
