// Decoding of ggml's block types, whole blocks at a time, to the exact f32 values of the reference codec.
// Types are named by their numbers in GGUF files. Also HiF4, whose scale changes every four elements.

import { decodeF16 } from './matmul-f16.ts';
import { blockIq4Xs, blockQ2K, blockQ3K, blockQ45K, blockQ6K, iq4Values } from './matmul-ggml-k.ts';
import { bitsToBytes, highNibbles, lowNibbles, spread, spreadAffine, twoBits } from './matmul-spread.ts';

/** FP4 codes as twice their values. */
// @ts-ignore: decorator
@inline
function doubledFp4(): v128 {
  return v128(0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12);
}

/** 32 nibbles as ggml orders them, low ones first, through a table. */
function tableBlock(bytes: v128, table: v128, scale: f32, dst: usize): void {
  spread(i8x16.swizzle(table, lowNibbles(bytes)), scale, dst);
  spread(i8x16.swizzle(table, highNibbles(bytes)), scale, dst + 64);
}

/** Q4_0 and Q5_0 (offset half the range), Q4_1 and Q5_1 (stored minimum). */
function legacyBlock(o: usize, five: bool, affine: bool, dst: usize): void {
  const d = decodeF16(load<u16>(o));
  const high = o + (affine ? 4 : 2);
  const bytes = v128.load(five ? high + 4 : high);
  let low = lowNibbles(bytes);
  let up = highNibbles(bytes);
  if (five) {
    low = v128.or(low, bitsToBytes(load<u32>(high), 16));
    up = v128.or(up, bitsToBytes(load<u32>(high) >> 16, 16));
  }
  if (affine) {
    const m = decodeF16(load<u16>(o, 2));
    spreadAffine(low, d, m, dst);
    spreadAffine(up, d, m, dst + 64);
  } else {
    const half = i8x16.splat(five ? 16 : 8);
    spread(i8x16.sub(low, half), d, dst);
    spread(i8x16.sub(up, half), d, dst + 64);
  }
}

/** Half of an unsigned E4M3 scale; 0x7f is 0. */
function halfE4m3(code: u32): f32 {
  const low = code & 0x7f;
  if (code == 0x7f) return 0;
  // Exponent and mantissa moved to f32; 2^120 corrects the bias, 1/2 is the half. Subnormals come out exact.
  return reinterpret<f32>(low << 20) * reinterpret<f32>((127 + 119) << 23);
}

function nvfp4Block(o: usize, dst: usize): void {
  for (let s: usize = 0; s < 4; s++) {
    const eight = v128.load64_zero(o + 4 + (s << 3));
    const codes = v128.shuffle<i64>(lowNibbles(eight), highNibbles(eight), 0, 2);
    spread(i8x16.swizzle(doubledFp4(), codes), halfE4m3(load<u8>(o + s)), dst + (s << 6));
  }
}

/** TQ1_0: a byte is a fraction of 243; digit n comes out of byte · 3^n mod 256 by a multiplication with 3. */
function digits(from: usize, count: i32, depth: i32, d: f32, dst: usize): void {
  for (let m = 0; m < count; m++) {
    let fraction = <u32>load<u8>(from + <usize>m);
    for (let n = 0; n < depth; n++) {
      store<f32>(dst + ((<usize>(m + n * count)) << 2), <f32>(<i32>((fraction * 3) >> 8) - 1) * d);
      fraction = (fraction * 3) & 255;
    }
  }
}

function ternaryBlock(o: usize, dst: usize): void {
  const d = decodeF16(load<u16>(o, 64));
  for (let j = 0; j < 16; j++) {
    const codes = v128.load(o + <usize>(((j >> 3) << 5) + ((j & 1) << 4)));
    spread(i8x16.sub(twoBits(codes, ((j >> 1) & 3) << 1), i8x16.splat(1)), d, dst + ((<usize>j) << 6));
  }
}

function signBlock(o: usize, dst: usize): void {
  const d = decodeF16(load<u16>(o));
  for (let j: usize = 0; j < 8; j++)
    spread(i8x16.sub(bitsToBytes(load<u16>(o + 2 + (j << 1)), 2), i8x16.splat(1)), d, dst + (j << 6));
}

function twoBitBlock(o: usize, dst: usize): void {
  const d = decodeF16(load<u16>(o));
  for (let i: usize = 0; i < 64; i++) {
    const q = ((<i32>load<u8>(o + 2 + (i >> 2)) >> (<i32>(i & 3) << 1)) & 3) - 1;
    store<f32>(dst + (i << 2), <f32>q * d);
  }
}

function q8Block(o: usize, dst: usize): void {
  const d = decodeF16(load<u16>(o));
  spread(v128.load(o, 2), d, dst);
  spread(v128.load(o, 18), d, dst + 64);
}

function tq1Block(o: usize, dst: usize): void {
  const d = decodeF16(load<u16>(o, 52));
  digits(o, 32, 5, d, dst);
  digits(o + 32, 16, 5, d, dst + 640);
  digits(o + 48, 4, 4, d, dst + 960);
}

/** One block of GGUF type `id`. */
function decodeBlock(id: i32, o: usize, dst: usize): void {
  switch (id) {
    case 2:
      return legacyBlock(o, false, false, dst);
    case 3:
      return legacyBlock(o, false, true, dst);
    case 6:
      return legacyBlock(o, true, false, dst);
    case 7:
      return legacyBlock(o, true, true, dst);
    case 8:
      return q8Block(o, dst);
    case 10:
      return blockQ2K(o, dst);
    case 11:
      return blockQ3K(o, dst);
    case 12:
      return blockQ45K(o, false, dst);
    case 13:
      return blockQ45K(o, true, dst);
    case 14:
      return blockQ6K(o, dst);
    case 20:
      return tableBlock(v128.load(o, 2), iq4Values(), decodeF16(load<u16>(o)), dst);
    case 23:
      return blockIq4Xs(o, dst);
    case 34:
      return tq1Block(o, dst);
    case 35:
      return ternaryBlock(o, dst);
    case 39: {
      // 2^(byte − 128): half the scale; the two smallest are subnormal.
      const e = <u32>load<u8>(o);
      const bits = e > 1 ? (e - 1) << 23 : 0x00200000 << e;
      return tableBlock(v128.load(o, 1), doubledFp4(), reinterpret<f32>(bits), dst);
    }
    case 40:
      return nvfp4Block(o, dst);
    case 41:
      return signBlock(o, dst);
    case 42:
      return twoBitBlock(o, dst);
    default:
      unreachable();
  }
}

/** `length` values from `start` of a row at `row`; both are whole blocks. */
export function decodeGgml(id: i32, block: i32, bytes: i32, row: usize, start: i32, length: i32, dst: usize): void {
  let from = row + <usize>(start / block) * <usize>bytes;
  const end = dst + ((<usize>length) << 2);
  for (; dst < end; dst += (<usize>block) << 2) {
    decodeBlock(id, from, dst);
    from += <usize>bytes;
  }
}

/** HiF4: codes at `codes`, four scale bytes a block at `scales`; both of the row. */
export function decodeHif4(codes: usize, scales: usize, start: i32, length: i32, dst: usize): void {
  const magnitudes = v128(0, 1, 2, 3, 4, 5, 6, 7, 0, -1, -2, -3, -4, -5, -6, -7);
  for (let i = start; i < start + length; i += 16) {
    const at = scales + ((<usize>(i >> 6)) << 2);
    const first = <u32>load<u8>(at);
    // E6M2: 2^(e − 48) (1 + m/4), a quarter of it for the integer magnitudes.
    const base = first == 255 ? f32.NaN : reinterpret<f32>((((first >> 2) + 127 - 50) << 23) | ((first & 3) << 21));
    const level2 = <u32>load<u8>(at, 1);
    const level3 = <u32>load<u16>(at, 2);
    const eight = v128.load64_zero(codes + <usize>(i >> 1));
    const nibbles = v128.shuffle<i8>(
      lowNibbles(eight),
      highNibbles(eight),
      0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23,
    );
    spread(i8x16.swizzle(magnitudes, nibbles), base, dst);
    for (let four: u32 = 0; four < 4; four++) {
      const element = <u32>(i & 63) + (four << 2);
      const shift = ((level2 >> (element >> 3)) & 1) + ((level3 >> (element >> 2)) & 1);
      const quad = dst + ((<usize>four) << 4);
      v128.store(quad, f32x4.mul(v128.load(quad), f32x4.splat(<f32>(1 << shift))));
    }
    dst += 64;
  }
}
