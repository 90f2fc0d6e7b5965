// Little-endian f16 fields of ggml blocks.

import { f16Bits, f16Value } from '../bits.ts';

/** The f16 code of a block's scale: nearest even; NaN becomes x86's default NaN, which ggml's searches leave there. */
export function halfBits(value: number): number {
  return Number.isNaN(value) ? 0xfe00 : f16Bits(value);
}

export const halfValue = f16Value;

export function writeHalf(out: Uint8Array, at: number, value: number): void {
  const bits = halfBits(value);
  out[at] = bits & 255;
  out[at + 1] = bits >> 8;
}

export function readHalf(bytes: Uint8Array, at: number): number {
  return f16Value(bytes[at] | (bytes[at + 1] << 8));
}
