// Decoding of packed rows inside the matrix products, to f32 values or to signed bytes.
//
// A packed operand is described by words that follow a kernel's own arguments (matmul-source.ts on the host writes
// them): where codes and scales are, and tables that give the value of every code, made from the reference codec, so
// that a kernel cannot disagree with it. value = element × scale (× tensor scale), each product rounded to f32.
// An element type whose values are int8 multiples of one unit (FP4: 1/2, FP6 E2M3: 1/8, integers: 1) also has a byte
// table: it is unpacked by SIMD, and the integer products use it as it is.

import { decodeF16 } from './matmul-f16.ts';
import { decodeGgml, decodeHif4 } from './matmul-ggml.ts';
import { highNibbles, lowNibbles, spread } from './matmul-spread.ts';

/** Kinds of source. */
export const sourceAcross: i32 = 0; // dense [K, N]
export const sourceAlong: i32 = 1; // dense [N, K]
export const sourceF16: i32 = 2;
export const sourceBf16: i32 = 3;
export const sourceCodes: i32 = 4;
export const sourceGgml: i32 = 5;
export const sourceHif4: i32 = 6;

/** Words of a source description, as byte offsets. */
const kindAt: usize = 0;
const codesAt: usize = 4;
const rowBytesAt: usize = 8;
const bitsAt: usize = 12;
const scalesAt: usize = 16;
const scaleKindAt: usize = 20; // 0 f32, 1 f16, 2 bf16, 3 one byte through the scale table, 4 none
const scaleRowsAt: usize = 24; // rows that share a row of scales
const scalesPerRowAt: usize = 28;
const groupAt: usize = 32; // columns that share a scale
const zeroKindAt: usize = 36; // 0 none, 1 one byte a scale, 2 in the scales' format
const zerosAt: usize = 40;
const tensorScaleAt: usize = 44; // address of one f32
const unitAt: usize = 48; // 0 where there is no byte table
const scaleTableAt: usize = 52; // offset of 256 floats from the start of the description
const otherTableAt: usize = 56; // offset of the table for scales with bit 7 set (IF4); 0 for other formats
const floatAt: usize = 60; // 8-bit floats: mantissa bits, bias and first special code, a byte each; otherwise 0
const tableAt: usize = 64; // 256 bytes (signed), then 2^bits floats

// @ts-ignore: decorator
@inline
export function sourceKind(d: usize): i32 {
  return load<i32>(d + kindAt);
}

// @ts-ignore: decorator
@inline
export function sourceGroup(d: usize): i32 {
  return load<i32>(d + groupAt);
}

// @ts-ignore: decorator
@inline
export function sourceUnit(d: usize): f32 {
  return load<f32>(d + unitAt);
}

// @ts-ignore: decorator
@inline
export function sourceTensorScale(d: usize): f32 {
  return load<f32>(load<usize>(d + tensorScaleAt));
}

function scaleAt(d: usize, from: usize, index: i32): f32 {
  switch (load<i32>(d + scaleKindAt)) {
    case 0:
      return load<f32>(from + ((<usize>index) << 2));
    case 1:
      return decodeF16(load<u16>(from + ((<usize>index) << 1)));
    case 2:
      return reinterpret<f32>((<u32>load<u16>(from + ((<usize>index) << 1))) << 16);
    case 3:
      return load<f32>(d + load<usize>(d + scaleTableAt) + ((<usize>load<u8>(from + <usize>index)) << 2));
    default:
      return 1;
  }
}

/** Scale of group `g` of row `row`, without the tensor scale. */
// @ts-ignore: decorator
@inline
export function sourceScale(d: usize, row: i32, g: i32): f32 {
  return scaleAt(d, load<usize>(d + scalesAt), scaleIndex(d, row, g));
}

// @ts-ignore: decorator
@inline
function scaleIndex(d: usize, row: i32, g: i32): i32 {
  return (row / load<i32>(d + scaleRowsAt)) * load<i32>(d + scalesPerRowAt) + g;
}

/**
 * Scales of a row times `factor`, one for every `block` columns (a divisor of the group, or the group), each `stride`
 * bytes after the other.
 */
export function rowScales(d: usize, row: i32, blocks: i32, block: i32, factor: f32, to: usize, stride: usize): void {
  const from = load<usize>(d + scalesAt);
  const kind = load<i32>(d + scaleKindAt);
  const table = d + load<usize>(d + scaleTableAt);
  const repeats = (sourceGroup(d) + block - 1) / block;
  let index = scaleIndex(d, row, 0);
  let used = 0;
  let scale: f32 = 0;
  for (let g = 0; g < blocks; g++) {
    if (used == 0) {
      scale = kind == 3 ? load<f32>(table + ((<usize>load<u8>(from + <usize>index)) << 2)) : scaleAt(d, from, index);
      index++;
    }
    if (++used == repeats) used = 0;
    store<f32>(to, scale * factor);
    to += stride;
  }
}

// @ts-ignore: decorator
@inline
export function sourceHasZeros(d: usize): bool {
  return load<i32>(d + zeroKindAt) != 0;
}

/** Zero point of a group where zero points are bytes, 0 where there are none. */
// @ts-ignore: decorator
@inline
export function sourceZero(d: usize, row: i32, g: i32): i32 {
  if (load<i32>(d + zeroKindAt) != 1) return 0;
  return load<u8>(load<usize>(d + zerosAt) + <usize>scaleIndex(d, row, g));
}

// @ts-ignore: decorator
@inline
function codeAt(codes: usize, bits: i32, index: i32): u32 {
  const bit = <u32>index * <u32>bits;
  const at = codes + <usize>(bit >> 3);
  const shift = bit & 7;
  let word = <u32>load<u8>(at);
  // The second byte is read only where the code reaches into it: a row may end the buffer.
  if (shift + <u32>bits > 8) word |= (<u32>load<u8>(at, 1)) << 8;
  return (word >> shift) & ((1 << bits) - 1);
}

/**
 * Codes start … start+length−1 of a row, one a byte. Eight codes fill `bits` whole bytes, so they are taken from one
 * word of 64 bits; the last ones singly, because the word could reach beyond the matrix.
 */
function unpack(codes: usize, bits: i32, start: i32, length: i32, dst: usize): void {
  let i = 0;
  if ((start & 7) == 0) {
    let from = codes + <usize>((start >> 3) * bits);
    const mask = <u64>((1 << bits) - 1);
    for (; i + 16 <= length; i += 8) {
      let word = load<u64>(from);
      for (let j: usize = 0; j < 8; j++) {
        store<u8>(dst + <usize>i + j, <u8>(word & mask));
        word >>= <u64>bits;
      }
      from += <usize>bits;
    }
  }
  for (; i < length; i++) store<u8>(dst + <usize>i, <u8>codeAt(codes, bits, start + i));
}

/** Thirty-two four-bit codes at `from` through a table of sixteen bytes. */
// @ts-ignore: decorator
@inline
function nibbles(from: usize, table: v128, dst: usize): void {
  const pairs = v128.load(from);
  const low = i8x16.swizzle(table, lowNibbles(pairs));
  const high = i8x16.swizzle(table, highNibbles(pairs));
  const a = v128.shuffle<i8>(low, high, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  const b = v128.shuffle<i8>(low, high, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
  v128.store(dst, a);
  v128.store(dst, b, 16);
}

/** Codes start … start+length−1 of a row as signed bytes (table values, before zero points) at dst. */
export function decodeBytes(d: usize, row: i32, start: i32, length: i32, dst: usize): void {
  const codes = load<usize>(d + codesAt) + <usize>row * load<usize>(d + rowBytesAt);
  const bits = load<i32>(d + bitsAt);
  const table = d + tableAt;
  if (bits == 8) {
    // Eight-bit elements with a byte table are integers: the code is the value.
    memory.copy(dst, codes + <usize>start, <usize>length);
    return;
  }
  let i = 0;
  if (bits == 4 && (start & 1) == 0) {
    const values = v128.load(table);
    let from = codes + <usize>(start >> 1);
    for (; i + 32 <= length; i += 32) {
      nibbles(from, values, dst + <usize>i);
      from += 16;
    }
    // Blocks of sixteen, and what is left of longer ones: two codes a byte.
    for (; i + 2 <= length; i += 2) {
      const pair = <usize>load<u8>(from++);
      store<u8>(dst + <usize>i, load<u8>(table + (pair & 15)));
      store<u8>(dst + <usize>i, load<u8>(table + (pair >> 4)), 1);
    }
  }
  if (i > 0) {
    for (; i < length; i++) store<u8>(dst + <usize>i, load<u8>(table + <usize>codeAt(codes, bits, start + i)));
    return;
  }
  unpack(codes, bits, start, length, dst);
  for (; i < length; i++) store<u8>(dst + <usize>i, load<u8>(table + <usize>load<u8>(dst + <usize>i)));
}

/** (Four-bit integers − zero) times one scale: sixteen codes a step. Returns how many it did. */
function spreadNibbles(from: usize, table: v128, length: i32, zero: i32, scale: f32, dst: usize): i32 {
  const z = i8x16.splat(<i8>zero);
  let i = 0;
  for (; i + 16 <= length; i += 16) {
    const eight = v128.load64_zero(from);
    const low = lowNibbles(eight);
    const high = highNibbles(eight);
    const codes = v128.shuffle<i8>(low, high, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    spread(i8x16.sub(i8x16.swizzle(table, codes), z), scale, dst);
    from += 8;
    dst += 64;
  }
  return i;
}

/** dst[i] = table[codes[i]] · scale. Reads four codes before it writes four values. */
function lookUp(codes: usize, length: i32, table: usize, scale: f32, dst: usize): void {
  const s = f32x4.splat(scale);
  let i = 0;
  for (; i + 4 <= length; i += 4) {
    const four = load<u32>(codes + <usize>i);
    let v = v128.load32_zero(table + ((four & 255) << 2));
    v = v128.load32_lane(table + (((four >> 8) & 255) << 2), v, 1);
    v = v128.load32_lane(table + (((four >> 16) & 255) << 2), v, 2);
    v = v128.load32_lane(table + ((four >> 24) << 2), v, 3);
    v128.store(dst + ((<usize>i) << 2), f32x4.mul(v, s));
  }
  for (; i < length; i++) {
    const value = load<f32>(table + ((<usize>load<u8>(codes + <usize>i)) << 2));
    store<f32>(dst + ((<usize>i) << 2), value * scale);
  }
}

/**
 * Eight-bit floats: exponent and mantissa move to their places in f32, a multiplication corrects the bias (exact,
 * subnormals included). Sixteen codes with a NaN or infinity among them go through the table.
 */
function spreadFloats(codes: usize, length: i32, format: u32, table: usize, scale: f32, dst: usize): void {
  const shift = 23 - <i32>(format & 255);
  const power = f32x4.splat(reinterpret<f32>((254 - ((format >> 8) & 255)) << 23));
  const special = i8x16.splat(<i8>(format >> 16));
  const s = f32x4.splat(scale);
  let i = 0;
  for (; i + 16 <= length; i += 16) {
    const from = codes + <usize>i;
    const to = dst + ((<usize>i) << 2);
    if (v128.any_true(i8x16.ge_u(v128.and(v128.load(from), i8x16.splat(127)), special))) {
      lookUp(from, 16, table, scale, to);
      continue;
    }
    for (let j: usize = 0; j < 16; j += 4) {
      const x = i32x4.extend_low_i16x8_u(i16x8.extend_low_i8x16_u(v128.load32_zero(from + j)));
      const magnitude = f32x4.mul(i32x4.shl(v128.and(x, i32x4.splat(127)), shift), power);
      const value = v128.or(magnitude, i32x4.shl(v128.and(x, i32x4.splat(128)), 24));
      v128.store(to + (j << 2), f32x4.mul(value, s));
    }
  }
  lookUp(codes + <usize>i, length - i, table, scale, dst + ((<usize>i) << 2));
}

/** dst[i] = (bytes[i] − zero) · unit · scale · tensorScale; `signed` says how the bytes are read. */
function scaleBytes(src: usize, length: i32, signed: bool, zero: f32, unit: f32, scale: f32, dst: usize): void {
  const z = f32x4.splat(zero);
  const u = f32x4.splat(unit);
  const s = f32x4.splat(scale);
  let i = 0;
  for (; i + 4 <= length; i += 4) {
    const four = v128.load32_zero(src + <usize>i);
    const words = signed
      ? i32x4.extend_low_i16x8_s(i16x8.extend_low_i8x16_s(four))
      : i32x4.extend_low_i16x8_u(i16x8.extend_low_i8x16_u(four));
    const value = f32x4.mul(f32x4.sub(f32x4.convert_i32x4_s(words), z), u);
    v128.store(dst + ((<usize>i) << 2), f32x4.mul(value, s));
  }
  for (; i < length; i++) {
    const word = signed ? <i32>load<i8>(src + <usize>i) : <i32>load<u8>(src + <usize>i);
    store<f32>(dst + ((<usize>i) << 2), (<f32>word - zero) * unit * scale);
  }
}

function multiply(dst: usize, length: i32, factor: f32): void {
  const f = f32x4.splat(factor);
  let i = 0;
  for (; i + 4 <= length; i += 4) {
    const at = dst + ((<usize>i) << 2);
    v128.store(at, f32x4.mul(v128.load(at), f));
  }
  for (; i < length; i++) {
    const at = dst + ((<usize>i) << 2);
    store<f32>(at, load<f32>(at) * factor);
  }
}

function increase(dst: usize, length: i32, term: f32): void {
  const t = f32x4.splat(term);
  let i = 0;
  for (; i + 4 <= length; i += 4) {
    const at = dst + ((<usize>i) << 2);
    v128.store(at, f32x4.add(v128.load(at), t));
  }
  for (; i < length; i++) {
    const at = dst + ((<usize>i) << 2);
    store<f32>(at, load<f32>(at) + term);
  }
}

function decodeHalves(from: usize, length: i32, brain: bool, dst: usize): void {
  let i = 0;
  if (brain) {
    for (; i + 4 <= length; i += 4) {
      v128.store(dst, i32x4.shl(v128.load16x4_u(from), 16));
      from += 8;
      dst += 16;
    }
    for (; i < length; i++) {
      store<u32>(dst, (<u32>load<u16>(from)) << 16);
      from += 2;
      dst += 4;
    }
    return;
  }
  const big = i32x4.splat(0x7c00);
  const power = i32x4.splat(0x77800000);
  for (; i + 4 <= length; i += 4) {
    const h = v128.load16x4_u(from);
    const magnitude = v128.and(h, i32x4.splat(0x7fff));
    const shifted = i32x4.shl(magnitude, 13);
    const special = v128.or(shifted, i32x4.splat(0x7f800000));
    const value = v128.bitselect(special, f32x4.mul(shifted, power), i32x4.ge_s(magnitude, big));
    v128.store(dst, v128.or(value, i32x4.shl(v128.and(h, i32x4.splat(0x8000)), 16)));
    from += 8;
    dst += 16;
  }
  for (; i < length; i++) {
    store<f32>(dst, decodeF16(load<u16>(from)));
    from += 2;
    dst += 4;
  }
}

/** Values start … start+length−1 of packed row `row` as f32 at dst. */
export function decodeRow(d: usize, row: i32, start: i32, length: i32, dst: usize): void {
  const kind = sourceKind(d);
  const codes = load<usize>(d + codesAt) + <usize>row * load<usize>(d + rowBytesAt);
  if (kind == sourceGgml) {
    decodeGgml(load<i32>(d + bitsAt), load<i32>(d + scalesAt), load<i32>(d + scaleKindAt), codes, start, length, dst);
    return;
  }
  if (kind == sourceHif4) {
    const scales = load<usize>(d + scalesAt) + (<usize>row * load<usize>(d + rowBytesAt)) / 8;
    decodeHif4(codes, scales, start, length, dst);
    return;
  }
  if (kind != sourceCodes) {
    decodeHalves(codes + ((<usize>start) << 1), length, kind == sourceBf16, dst);
    return;
  }
  const group = sourceGroup(d);
  const unit = sourceUnit(d);
  const bits = load<i32>(d + bitsAt);
  const zeroKind = load<i32>(d + zeroKindAt);
  const tensorScale = sourceTensorScale(d);
  const otherTable = load<usize>(d + otherTableAt);
  const floatFormat = load<u32>(d + floatAt);
  const integers = v128.load(d + tableAt);
  const scales = load<usize>(d + scalesAt);
  let g = start / group;
  let index = scaleIndex(d, row, g);
  for (let i = 0; i < length; g++, index++) {
    const end = min((g + 1) * group - start, length);
    const count = end - i;
    let scale = scaleAt(d, scales, index);
    let table = d + tableAt + 256;
    if (otherTable != 0 && load<u8>(scales + <usize>index) > 127) {
      scale = -scale;
      table = d + otherTable;
    }
    const out = dst + ((<usize>i) << 2);
    // Bytes go to the last quarter of their own f32 values: the loops read each before it is overwritten.
    const bytes = out + 3 * <usize>count;
    if (unit != 0) {
      const step = scale * unit;
      let done = 0;
      // unit · scale is exact unless it is subnormal, and then one multiplication gives the same as two.
      const zero = zeroKind == 1 ? <i32>load<u8>(load<usize>(d + zerosAt) + <usize>index) : 0;
      if (bits == 4 && ((start + i) & 1) == 0 && abs(step) >= <f32>1.1754943508222875e-38)
        done = spreadNibbles(codes + <usize>((start + i) >> 1), integers, count, zero, step, out);
      if (done < count) {
        const rest = bytes + <usize>done;
        decodeBytes(d, row, start + i + done, count - done, rest);
        scaleBytes(rest, count - done, zeroKind == 0, <f32>zero, unit, scale, out + ((<usize>done) << 2));
      }
    } else if (bits == 8) {
      const from = codes + <usize>(start + i);
      if (floatFormat != 0) spreadFloats(from, count, floatFormat, table, scale, out);
      else lookUp(from, count, table, scale, out);
    } else {
      unpack(codes, bits, start + i, count, bytes);
      lookUp(bytes, count, table, scale, out);
    }
    if (zeroKind == 2) increase(out, count, scaleAt(d, load<usize>(d + zerosAt), index));
    i = end;
  }
  if (tensorScale != 1) multiply(dst, length, tensorScale);
}
