// The op quantize for MXFP4 by vectors: E2M1 in groups of 32 with E8M0 scales, the rules and roundings of training.
//
// The same codes as quantize-spec.ts. Codes of a magnitude follow from comparing it with seven numbers. All of them are
// products of a constant and the power of two of the scale, which are exact, so the constants are rounded once: thresholds
// fl(fl(step) · midpoint) as in the reference, and for stochastic rounding the smallest f32 from each level on, since
// brackets are found by exact quotients there. Groups whose scales are so small that products would leave the normal
// range go the other kernel's way: they are marked and `quantizeSpec`'s functions redo them.
//
// Nearest even under power-of-two scales alone needs no comparisons. With z = |x| / scale, a product by a power of two, and
// 2^e the power of two below z, 1 at least: the last place of P = 2^(e + 22) is half of 2^e, the step of E2M1 there, so z + P
// is rounded to nearest even in such steps, its bits less those of P are their number n, and n + 2e is the code; 7 is the
// largest. Lanes are narrowed to bytes and bytes to pairs of nibbles, a group at a time. Constants are loaded from memory,
// as in common/math.ts.
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
// @ts-ignore: decorator
@inline
function largest(x: usize): u32 {
  const mask = v128.load32_splat(magnitudeBits);
  let m = i32x4.max_u(v128.and(v128.load(x), mask), v128.and(v128.load(x, 16), mask));
  let n = i32x4.max_u(v128.and(v128.load(x, 32), mask), v128.and(v128.load(x, 48), mask));
  m = i32x4.max_u(m, i32x4.max_u(v128.and(v128.load(x, 64), mask), v128.and(v128.load(x, 80), mask)));
  n = i32x4.max_u(n, i32x4.max_u(v128.and(v128.load(x, 96), mask), v128.and(v128.load(x, 112), mask)));
  const most = i32x4.max_u(m, n);
  const half = i32x4.max_u(most, v128.shuffle<i32>(most, most, 2, 3, 0, 1));
  return max<u32>(i32x4.extract_lane(half, 0), i32x4.extract_lane(half, 1));
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

const magnitudeBits: usize = memory.data<u32>([0x7fffffff]);
const exponentBits: usize = memory.data<u32>([0x7f800000]);
const oneBits: usize = memory.data<u32>([0x3f800000]);
/** Bits of 2^22 as a factor of a power of two. */
const lift: usize = memory.data<u32>([22 << 23]);
/** Twice the bias of f32, in 16 bits. */
const bias2: usize = memory.data<u32>([0x00fe00fe]);
const sevens: usize = memory.data<u32>([0x07070707]);
const signBits: usize = memory.data<u32>([0x80808080]);
const lowBytes: usize = memory.data<u32>([0x00ff00ff]);

/** n + 2 (e + 127) of four numbers. */
// @ts-ignore: decorator
@inline
function steps(v: v128, inverse: v128): v128 {
  const z = f32x4.mul(v128.and(v, v128.load32_splat(magnitudeBits)), inverse);
  const power = i32x4.max_s(v128.and(z, v128.load32_splat(exponentBits)), v128.load32_splat(oneBits));
  const base = i32x4.add(power, v128.load32_splat(lift));
  return i32x4.add(i32x4.sub(f32x4.add(z, base), base), i32x4.shr_u(power, 22));
}

/** Sixteen codes as bytes of two, each in a lane of 16 bits. */
// @ts-ignore: decorator
@inline
function sixteenCodes(x: usize, inverse: v128): v128 {
  const v0 = v128.load(x);
  const v1 = v128.load(x, 16);
  const v2 = v128.load(x, 32);
  const v3 = v128.load(x, 48);
  const bias = v128.load32_splat(bias2);
  const low = i16x8.sub(i16x8.narrow_i32x4_s(steps(v0, inverse), steps(v1, inverse)), bias);
  const high = i16x8.sub(i16x8.narrow_i32x4_s(steps(v2, inverse), steps(v3, inverse)), bias);
  const codes = i8x16.min_u(i8x16.narrow_i16x8_u(low, high), v128.load32_splat(sevens));
  // narrowing saturates, so signs stay
  const sign = i8x16.narrow_i16x8_s(i16x8.narrow_i32x4_s(v0, v1), i16x8.narrow_i32x4_s(v2, v3));
  const bytes = v128.or(codes, i16x8.shr_u(v128.and(sign, v128.load32_splat(signBits)), 4));
  return v128.and(v128.or(bytes, i16x8.shr_u(bytes, 4)), v128.load32_splat(lowBytes));
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
