// Scales: the rules and storage formats of src/formats/scale-rules.ts and scale-format.ts, one number at a time.

export const scaleF32: i32 = 0;
export const scaleF16: i32 = 1;
export const scaleBf16: i32 = 2;
export const scaleE8m0: i32 = 3;
export const scaleE4m3: i32 = 4;
export const scaleUe5m3: i32 = 5;

export const ruleFloor: i32 = 0;
export const ruleCeil: i32 = 1;
export const ruleEven: i32 = 2;
export const ruleRceil: i32 = 3;
/** A float scale: amax / divisor. */
export const ruleAbsmax: i32 = 4;
/** NVFP4 as libraries compute it (src/formats/nvfp4.ts). */
export const ruleCompressedTensors: i32 = 5;
export const ruleTransformerEngine: i32 = 6;
export const ruleModelopt: i32 = 7;

function f16Code(x: f32): u32 {
  const bits = reinterpret<u32>(x);
  const sign = (bits >> 16) & 0x8000;
  let a = bits & 0x7fffffff;
  if (a >= 0x477fe000) return sign | 0x7bff; // saturates at 65504
  if (a < 0x38800000) {
    a = reinterpret<u32>(reinterpret<f32>(a) + <f32>0.5) - 0x3f000000;
    return a == 0 && (bits & 0x7fffffff) != 0 ? sign | 1 : sign | a;
  }
  return sign | ((a - 0x38000000 + 0xfff + ((a >> 13) & 1)) >> 13);
}

function f16Value(code: u32): f32 {
  const scaled = reinterpret<f32>((code & 0x7fff) << 13) * <f32>5192296858534827628530496329220096.0;
  return reinterpret<f32>(reinterpret<u32>(scaled) | ((code & 0x8000) << 16));
}

function bf16Code(x: f32): u32 {
  const bits = reinterpret<u32>(x);
  const code = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  if (code == 0 && x > 0) return 1;
  return (code & 0x7fff) == 0x7f80 ? code - 1 : code;
}

/** Nearest-even code of a minifloat with 3 mantissa bits and no sign. */
// @ts-ignore: decorator
@inline
function roundedCode(x: f32, bias: i32, last: i32): u32 {
  const bits = reinterpret<i32>(x);
  const field = max(bits >> 23, 128 - bias);
  // value / spacing of its binade, exact
  const n = <i32>nearest(x * reinterpret<f32>((257 - field) << 23));
  return min(((field - 128 + bias) << 3) + n, last);
}

/** The same, but positive values never become 0. */
function smallCode(x: f32, bias: i32, last: i32): u32 {
  const code = roundedCode(x, bias, last);
  return code == 0 && x > 0 ? 1 : code;
}

/** E4M3 code of a number up to 512: nearest even, saturating, small numbers become 0. */
export function e4m3Code(x: f32): u32 {
  return roundedCode(x, 7, 126);
}

function smallValue(code: u32, bias: i32): f32 {
  const field = <i32>(code >> 3);
  const fraction = <i32>(code & 7);
  if (field == 0) return <f32>fraction * reinterpret<f32>((125 - bias) << 23);
  return f32(fraction | 8) * reinterpret<f32>((field - bias + 124) << 23);
}

/** Code of a scale value under a storage format. */
export function encodeScale(format: i32, x: f32): u32 {
  switch (format) {
    case scaleF16:
      return f16Code(x);
    case scaleBf16:
      return bf16Code(x);
    case scaleE4m3:
      return smallCode(min<f32>(x, 512), 7, 126);
    case scaleUe5m3:
      return smallCode(min<f32>(x, 131072), 15, 254);
    default:
      return reinterpret<u32>(x);
  }
}

/** Value of a scale code. */
export function decodeScale(format: i32, code: u32): f32 {
  switch (format) {
    case scaleF16:
      return f16Value(code);
    case scaleBf16:
      return reinterpret<f32>(code << 16);
    case scaleE8m0:
      return reinterpret<f32>(code == 0 ? 0x00400000 : code << 23);
    case scaleE4m3:
      return smallValue(code, 7);
    case scaleUe5m3:
      return smallValue(code, 15);
    default:
      return reinterpret<f32>(code);
  }
}

/** Stores a code in the bytes of its format at index `i`. */
export function storeScale(format: i32, base: usize, i: i32, code: u32): void {
  if (format == scaleF32) store<u32>(base + (<usize>i << 2), code);
  else if (format <= scaleBf16) store<u16>(base + (<usize>i << 1), <u16>code);
  else store<u8>(base + <usize>i, <u8>code);
}

/** floor(log2) of a positive float from its bits. */
// @ts-ignore: decorator
@inline
function exponent(bits: i32): i32 {
  return bits >= 0x800000 ? (bits >> 23) - 127 : -118 - clz(bits);
}

/**
 * E8M0 code of a block for the rules floor, ceil, even and rceil.
 * `evenBits`: half a unit of the mantissa that `even` rounds to, as float bits; `inverseMax`: fl(1 / elementMax).
 */
export function e8m0Code(rule: i32, amax: f32, emax: i32, evenBits: i32, inverseMax: f32): u32 {
  let bits = reinterpret<i32>(amax);
  if (bits == 0) return 0;
  if (rule == ruleRceil) {
    bits = reinterpret<i32>(amax * inverseMax);
    if (bits < 0x800000) return bits > 0x400000 ? 1 : 0;
    return min((bits + 0x7fffff) >> 23, 254);
  }
  if (rule == ruleEven) bits += evenBits;
  let e = exponent(bits);
  if (rule == ruleCeil) {
    const power = bits >= 0x800000 ? (bits & 0x7fffff) == 0 : popcnt(bits) == 1;
    if (!power) e++;
  }
  return <u32>(min(max(e - emax, -127), 127) + 127);
}

/** What the rules round to a scale format with 3 mantissa bits; `divisor` is a factor where a library multiplies. */
// @ts-ignore: decorator
@inline
function unroundedScale(rule: i32, amax: v128, clip: v128, divisor: v128): v128 {
  if (rule == ruleAbsmax) return f32x4.div(f32x4.mul(amax, clip), divisor);
  if (rule == ruleCompressedTensors) return f32x4.mul(divisor, f32x4.div(amax, f32x4.splat(6)));
  if (rule == ruleTransformerEngine) return f32x4.mul(amax, divisor);
  const clamped = f32x4.pmax(f32x4.pmin(f32x4.div(amax, divisor), f32x4.splat(448)), f32x4.splat(0.001953125));
  return v128.bitselect(f32x4.splat(1), clamped, f32x4.eq(amax, f32x4.splat(0)));
}

/**
 * Codes and values of `count` scales in a format with 3 mantissa bits, four at a time, rounded as encodeScale does;
 * amax[t] becomes the value.
 */
export function smallScales(
  format: i32,
  rule: i32,
  amax: usize,
  count: i32,
  clip: f32,
  divisor: f32,
  scales: usize,
): void {
  const bias = format == scaleE4m3 ? 7 : 15;
  const last = i32x4.splat(format == scaleE4m3 ? 126 : 254);
  const top = f32x4.splat(format == scaleE4m3 ? 512 : 131072);
  const lowest = i32x4.splat((128 - bias) << 23);
  const offset = i32x4.splat(0x4b000000 + ((128 - bias) << 3));
  const round = f32x4.splat(8388608);
  const shift: i32 = 23;
  const unit = i32x4.splat(257 << shift);
  const one = i32x4.splat(1);
  // code in place of 0 where the quotient is above `none`: absmax keeps positive scales positive
  const least = i32x4.splat(rule == ruleCompressedTensors ? 32 : rule == ruleAbsmax ? 1 : 0);
  const none = f32x4.splat(rule == ruleCompressedTensors ? -1 : 0);
  for (let t = 0; t < count; t += 4, amax += 16) {
    const q = f32x4.pmin(unroundedScale(rule, v128.load(amax), f32x4.splat(clip), f32x4.splat(divisor)), top);
    const e = i32x4.max_s(v128.and(q, i32x4.splat(0x7f800000)), lowest);
    const n = f32x4.add(f32x4.mul(q, i32x4.sub(unit, e)), round);
    let code = i32x4.min_s(i32x4.sub(i32x4.add(n, i32x4.shr_u(e, 20)), offset), last);
    code = v128.or(code, v128.and(v128.and(i32x4.eq(code, i32x4.splat(0)), f32x4.gt(q, none)), least));
    const field = i32x4.max_s(i32x4.shr_u(code, 3), one);
    const hidden = v128.and(i32x4.gt_s(code, i32x4.splat(7)), i32x4.splat(8));
    const integer = f32x4.convert_i32x4_s(v128.or(v128.and(code, i32x4.splat(7)), hidden));
    v128.store(amax, f32x4.mul(integer, i32x4.shl(i32x4.add(field, i32x4.splat(124 - bias)), 23)));
    const words = i16x8.narrow_i32x4_s(code, code);
    const bytes = i8x16.narrow_i16x8_u(words, words);
    if (t + 4 <= count) v128.store32_lane(scales + <usize>t, bytes, 0);
    else {
      let word = i32x4.extract_lane(bytes, 0);
      for (let k = t; k < count; k++, word >>= 8) store<u8>(scales + <usize>k, <u8>word);
    }
  }
}
