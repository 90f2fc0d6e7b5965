// The op quantize for 16-bit floats, Q4_0, Q8_0 and HiF4: ports of src/formats/bits.ts, ggml/legacy.ts and hif4.ts.

import { nonFiniteError } from '../../../data-error-codes';
import { address, at, word } from '../common/args';
import { shareEnd, shareStart } from '../common/share';
import { reportError } from './error';

/** bfloat16: nearest even; NaN canonical. */
function bf16Code(x: f32): u16 {
  const bits = reinterpret<u32>(x);
  if ((bits & 0x7fffffff) > 0x7f800000) return <u16>(((bits >> 16) & 0x8000) | 0x7fc0);
  return <u16>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

/** bf16Code of four values, in 32-bit lanes. */
// @ts-ignore: decorator
@inline
function bf16Codes(bits: v128): v128 {
  const top = i32x4.shr_u(bits, 16);
  const odd = v128.and(top, i32x4.splat(1));
  const rounded = i32x4.shr_u(i32x4.add(i32x4.add(bits, i32x4.splat(0x7fff)), odd), 16);
  const nan = v128.or(v128.and(top, i32x4.splat(0x8000)), i32x4.splat(0x7fc0));
  const isNan = i32x4.gt_s(v128.and(bits, i32x4.splat(0x7fffffff)), i32x4.splat(0x7f800000));
  return v128.bitselect(nan, rounded, isNan);
}

/** float16: nearest even, 65520 and beyond infinity, NaN canonical. */
export function f16Code(x: f32): u16 {
  const bits = reinterpret<u32>(x);
  const sign = (bits >> 16) & 0x8000;
  const a = bits & 0x7fffffff;
  if (a > 0x7f800000) return <u16>(sign | 0x7e00);
  if (a >= 0x477ff000) return <u16>(sign | 0x7c00);
  // Below 2^-14 values count in units of 2^-24: adding 0.5 puts that unit in the last place.
  if (a < 0x38800000) return <u16>(sign | (reinterpret<u32>(reinterpret<f32>(a) + <f32>0.5) - 0x3f000000));
  return <u16>(sign | ((a - 0x38000000 + 0xfff + ((a >> 13) & 1)) >> 13));
}

/** Words: x, codes, count, tensor scale (address), 0 f32, 1 f16, 2 bf16. */
export function quantizeHalves(args: usize, thread: i32, threads: i32): void {
  const x = address(args, 0);
  const out = address(args, 1);
  const count = word(args, 2);
  const kind = word(args, 4);
  if (thread == 0) store<f32>(address(args, 3), 1);
  const end = shareEnd(count, 64, thread, threads);
  let i = shareStart(count, 64, thread, threads);
  if (kind == 2)
    for (; i + 8 <= end; i += 8) {
      const low = bf16Codes(v128.load(at(x, i)));
      const high = bf16Codes(v128.load(at(x, i + 4)));
      v128.store(out + (<usize>i << 1), i16x8.narrow_i32x4_u(low, high));
    }
  for (; i < end; i++) {
    const v = load<f32>(at(x, i));
    if (kind == 0) store<f32>(at(out, i), v);
    else store<u16>(out + (<usize>i << 1), kind == 1 ? f16Code(v) : bf16Code(v));
  }
}

/** The first value of largest magnitude; a NaN or an infinity stops the search and is returned. */
function signedMaximum(x: usize, count: i32): f32 {
  let most: f32 = 0;
  for (let i = 0; i < count; i++) {
    const v = load<f32>(at(x, i));
    if (v - v != 0) return v;
    if (abs(v) > abs(most)) most = v;
  }
  return most;
}

// @ts-ignore: decorator
@inline
function truncate(x: f32): i32 {
  return x > -2147483649 && x < 2147483648 ? <i32>x : i32.MIN_VALUE;
}

function q4_0(x: usize, out: usize, most: f32): void {
  const d = most / -8;
  const inverse: f32 = d != 0 ? <f32>1 / d : 0;
  store<u16>(out, f16Code(d));
  for (let j = 0; j < 16; j++) {
    const low = <i32>(<i8>truncate(load<f32>(at(x, j)) * inverse + <f32>8.5));
    const high = <i32>(<i8>truncate(load<f32>(at(x, j + 16)) * inverse + <f32>8.5));
    store<u8>(out + 2 + <usize>j, <u8>((min(low, 15) & 15) | ((min(high, 15) & 15) << 4)));
  }
}

function q8_0(x: usize, out: usize, most: f32): void {
  const d = abs(most) / 127;
  const inverse: f32 = d != 0 ? <f32>1 / d : 0;
  store<u16>(out, f16Code(d));
  for (let j = 0; j < 32; j++) {
    const v = <f64>(load<f32>(at(x, j)) * inverse);
    // Halves away from zero; the sum is exact in f64.
    const rounded = v < 0 ? Math.ceil(v - 0.5) : Math.floor(v + 0.5);
    const inside = rounded > -2147483649 && rounded < 2147483648;
    store<i8>(out + 2 + <usize>j, inside ? <i8>(<i32>rounded) : 0);
  }
}

/** Words: x, codes, blocks of 32 values, tensor scale (address), 4 for Q4_0 or 8 for Q8_0. */
export function quantizeLegacy(args: usize, thread: i32, threads: i32): void {
  const blocks = word(args, 2);
  const bits = word(args, 4);
  const bytes: usize = bits == 4 ? 18 : 34;
  if (thread == 0) store<f32>(address(args, 3), 1);
  const end = shareEnd(blocks, 2, thread, threads);
  for (let b = shareStart(blocks, 2, thread, threads); b < end; b++) {
    const x = address(args, 0) + (<usize>b << 7);
    const out = address(args, 1) + <usize>b * bytes;
    const most = signedMaximum(x, 32);
    if (most - most != 0) {
      reportError(nonFiniteError, b);
      return;
    }
    if (bits == 4) q4_0(x, out, most);
    else q8_0(x, out, most);
  }
}

// @ts-ignore: decorator
@inline
function roundToBf16(x: f32): f32 {
  return reinterpret<f32>((<u32>bf16Code(x)) << 16);
}

/** Nearest E6M2 code of a positive number, clamped. */
function encodeE6m2(x: f64): u32 {
  const clamped = <f32>Math.min(Math.max(x, 3.552713678800501e-15), 49152);
  const bits = reinterpret<u32>(clamped);
  return min<u32>(((bits + 0xfffff + ((bits >> 21) & 1)) >> 21) - 316, 254);
}

function hif4(x: usize, codes: usize, scales: usize): void {
  let most: f32 = 0;
  let level2: u32 = 0;
  let level3: u32 = 0;
  for (let i = 0; i < 64; i++) most = max(most, abs(roundToBf16(load<f32>(at(x, i)))));
  const code = encodeE6m2(<f64>roundToBf16(<f32>(<f64>most * <f64>roundToBf16(<f32>(1.0 / 7.0)))));
  const scale = reinterpret<f64>((<i64>(code >> 2) - 48 + 1023) << 52) * (1 + <f64>(code & 3) * 0.25);
  const r = <f64>roundToBf16(<f32>(<f64>1 / scale));
  for (let k = 0; k < 8; k++) {
    let max8: f32 = 0;
    for (let i = 0; i < 8; i++) max8 = max(max8, abs(roundToBf16(load<f32>(at(x, 8 * k + i)))));
    const shift = <f64>max8 * r >= 4 ? 1 : 0;
    level2 |= <u32>shift << k;
    for (let j = 2 * k; j < 2 * k + 2; j++) {
      let max4: f32 = 0;
      for (let i = 0; i < 4; i++) max4 = max(max4, abs(roundToBf16(load<f32>(at(x, 4 * j + i)))));
      if (<f64>max4 * r * (shift ? 0.5 : 1) >= 2) level3 |= <u32>1 << j;
    }
  }
  store<u8>(scales, <u8>code);
  store<u8>(scales, <u8>level2, 1);
  store<u16>(scales, <u16>level3, 2);
  for (let i = 0; i < 64; i += 2) {
    let pair: u32 = 0;
    for (let h = 0; h < 2; h++) {
      const v = load<f32>(at(x, i + h));
      const shift = ((level2 >> ((i + h) >> 3)) & 1) + ((level3 >> ((i + h) >> 2)) & 1);
      const magnitude = <f64>abs(roundToBf16(v)) * r * (shift == 2 ? 0.25 : shift == 1 ? 0.5 : 1);
      const m = <u32>Math.min(Math.floor(magnitude * 4 + 0.5), 7);
      pair |= (reinterpret<i32>(v) < 0 ? m | 8 : m) << (4 * h);
    }
    store<u8>(codes + <usize>(i >> 1), <u8>pair);
  }
}

/** Words: x, codes, blocks of 64 values, tensor scale (address), scales. */
export function quantizeHif4(args: usize, thread: i32, threads: i32): void {
  const blocks = word(args, 2);
  if (thread == 0) store<f32>(address(args, 3), 1);
  const end = shareEnd(blocks, 1, thread, threads);
  for (let b = shareStart(blocks, 1, thread, threads); b < end; b++) {
    const x = address(args, 0) + (<usize>b << 8);
    const most = signedMaximum(x, 64);
    if (most - most != 0) {
      reportError(nonFiniteError, b);
      return;
    }
    hif4(x, address(args, 1) + (<usize>b << 5), address(args, 4) + (<usize>b << 2));
  }
}
