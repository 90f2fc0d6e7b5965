// Decoders of ggml's blocks of 256 with two levels of scales (Q2_K … Q6_K, IQ4_XS), one block each.
// Layouts and rounding are those of src/formats/ggml; tests compare every type with it.

import { decodeF16 } from './matmul-f16.ts';
import { highNibbles, lowNibbles, oneBit, spread, spreadAffine, twoBits } from './matmul-spread.ts';

/** Entries of the non-linear four-bit types. */
// @ts-ignore: decorator
@inline
export function iq4Values(): v128 {
  return v128(-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113);
}

// @ts-ignore: decorator
@inline
function byte(at: usize): i32 {
  return <i32>load<u8>(at);
}

export function blockQ2K(o: usize, dst: usize): void {
  const d = decodeF16(load<u16>(o, 80));
  const minimum = decodeF16(load<u16>(o, 82));
  for (let j = 0; j < 16; j++) {
    const codes = v128.load(o + 16 + <usize>(((j >> 3) << 5) + ((j & 1) << 4)));
    const scales = byte(o + <usize>j);
    const q = twoBits(codes, ((j >> 1) & 3) << 1);
    spreadAffine(q, d * <f32>(scales & 15), -(minimum * <f32>(scales >> 4)), dst + ((<usize>j) << 6));
  }
}

export function blockQ3K(o: usize, dst: usize): void {
  const d = decodeF16(load<u16>(o, 108));
  for (let j = 0; j < 16; j++) {
    const low = j < 8 ? byte(o + 96 + <usize>j) & 15 : byte(o + 88 + <usize>j) >> 4;
    const high = (byte(o + 104 + <usize>(j & 3)) >> ((j >> 2) << 1)) & 3;
    const codes = v128.load(o + 32 + <usize>(((j >> 3) << 5) + ((j & 1) << 4)));
    const mask = v128.load(o + ((<usize>(j & 1)) << 4));
    const q = v128.or(twoBits(codes, ((j >> 1) & 3) << 1), oneBit(mask, j >> 1, 4));
    spread(i8x16.sub(q, i8x16.splat(4)), d * <f32>((low | (high << 4)) - 32), dst + ((<usize>j) << 6));
  }
}

/** Q4_K and Q5_K. */
export function blockQ45K(o: usize, five: bool, dst: usize): void {
  const d = decodeF16(load<u16>(o));
  const minimum = decodeF16(load<u16>(o, 2));
  for (let j = 0; j < 8; j++) {
    const at = o + 4 + <usize>(j & 3);
    let scale = byte(at);
    let offset = byte(at + 4);
    if (j < 4) {
      scale &= 63;
      offset &= 63;
    } else {
      const low = byte(at + 8);
      scale = (low & 15) | ((scale >> 6) << 4);
      offset = (low >> 4) | ((offset >> 6) << 4);
    }
    const s = d * <f32>scale;
    const m = -(minimum * <f32>offset);
    const from = o + (five ? 48 : 16) + ((<usize>(j >> 1)) << 5);
    for (let half: usize = 0; half < 32; half += 16) {
      const bytes = v128.load(from + half);
      let q = j & 1 ? highNibbles(bytes) : lowNibbles(bytes);
      if (five) q = v128.or(q, oneBit(v128.load(o + 16 + half), j, 16));
      spreadAffine(q, s, m, dst + ((<usize>j) << 7) + (half << 2));
    }
  }
}

export function blockQ6K(o: usize, dst: usize): void {
  const d = decodeF16(load<u16>(o, 208));
  for (let j = 0; j < 16; j++) {
    const half = j >> 3;
    const quarter = (j >> 1) & 3;
    const l = (j & 1) << 4;
    const bytes = v128.load(o + <usize>((half << 6) + ((quarter & 1) << 5) + l));
    const low = quarter > 1 ? highNibbles(bytes) : lowNibbles(bytes);
    const high = twoBits(v128.load(o + 128 + <usize>((half << 5) + l)), quarter << 1);
    const q = i8x16.sub(v128.or(low, i8x16.shl(high, 4)), i8x16.splat(32));
    spread(q, d * <f32>load<i8>(o + 192 + <usize>j), dst + ((<usize>j) << 6));
  }
}

export function blockIq4Xs(o: usize, dst: usize): void {
  const d = decodeF16(load<u16>(o));
  for (let j = 0; j < 8; j++) {
    const low = (byte(o + 4 + <usize>(j >> 1)) >> ((j & 1) << 2)) & 15;
    const high = (byte(o + 2 + <usize>(j >> 2)) >> ((j & 3) << 1)) & 3;
    const scale = d * <f32>((low | (high << 4)) - 32);
    const bytes = v128.load(o + 8 + ((<usize>j) << 4));
    const out = dst + ((<usize>j) << 7);
    spread(i8x16.swizzle(iq4Values(), lowNibbles(bytes)), scale, out);
    spread(i8x16.swizzle(iq4Values(), highNibbles(bytes)), scale, out + 64);
  }
}
