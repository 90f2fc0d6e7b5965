// Scale storage: bytes, and the value of each code, in every scale format.
//
// f32, f16, bf16 (round to nearest even; f16 saturates at 65504), E8M0 (power of two, code 0 is 2^-127, 255 NaN),
// E4M3 with sign 0, UE5M3 (bias 15, no infinity), E6M2 (HiF4: bias 48, no subnormals). Encoding here is plain
// rounding; the rules that choose what to round are in scale-rules.ts.

import { bf16Bits, bf16Value, f16Bits, f16Value, f32Bits, f32FromBits } from './bits.ts';
import type { ScaleFormat } from './format.ts';
import { decodeMinifloat, encodeMinifloat } from './minifloat.ts';
import { scaleMinifloats } from './table.ts';

const byteCounts: Readonly<Record<ScaleFormat, number>> = {
  f32: 4,
  f16: 2,
  bf16: 2,
  e8m0: 1,
  e4m3: 1,
  ue5m3: 1,
  e6m2: 1,
};

/** Bytes of one scale. */
export const scaleBytes = (format: ScaleFormat) => byteCounts[format];

/** Largest finite scale. */
export function scaleMax(format: ScaleFormat): number {
  const max = { f32: 3.4028234663852886e38, f16: 65504, bf16: 3.3895313892515355e38, e8m0: 2 ** 127, e6m2: 49152 };
  if (format === 'e4m3' || format === 'ue5m3') return scaleMinifloats[format].max;
  return max[format];
}

/** 2^(code − 127); 255 is NaN. Exact, built from bits, so that 2^-127 survives. */
export function e8m0Value(code: number): number {
  if (code === 255) return Number.NaN;
  return f32FromBits(code === 0 ? 0x00400000 : code << 23);
}

/**
 * E8M0 code nearest to a number, ties up, as ml_dtypes converts: zero, negatives, NaN and infinity give 255, anything
 * up to 2^-127 code 0, and everything between 2^-127 and 2^-126 code 1 (the library does not round subnormals).
 */
export function encodeNearestE8m0(x: number): number {
  const bits = f32Bits(x);
  if (bits === 0 || bits >= 0x7f400000) return 255;
  const field = bits >>> 23;
  if (field !== 0) return field + ((bits >>> 22) & 1);
  return bits > 0x400000 ? 1 : 0;
}

/** Value of an E6M2 code: 2^(e − 48) · (1 + m/4); 255 is NaN. */
export function e6m2Value(code: number): number {
  return code === 255 ? Number.NaN : 2 ** ((code >>> 2) - 48) * (1 + (code & 3) / 4);
}

/** E6M2 code of a positive number: nearest even, clamped to [2^-48, 49152]. */
export function encodeE6m2(x: number): number {
  const bits = f32Bits(Math.min(Math.max(x, 2 ** -48), 49152));
  const rounded = bits + 0xfffff + ((bits >>> 21) & 1);
  return Math.min((rounded >>> 21) - ((127 - 48) << 2), 254);
}

/**
 * Code of a scale value (as an unsigned integer of the format's width), rounded to nearest even and saturating.
 * In the 8- and 16-bit formats a positive float32 never becomes zero: it takes the smallest positive code. E8M0 expects
 * a power of two.
 */
export function encodeScale(format: ScaleFormat, value: number): number {
  switch (format) {
    case 'f32':
      return f32Bits(value);
    case 'f16': {
      const code = f16Bits(Math.min(Math.max(value, -65504), 65504));
      return code === 0 && value > 0 ? 1 : code === 0x8000 && value < 0 ? 0x8001 : code;
    }
    case 'bf16': {
      const code = bf16Bits(value);
      if (code === 0 && value > 0) return 1;
      return (code & 0x7fff) === 0x7f80 ? code - 1 : code;
    }
    case 'e8m0':
      return Math.min(Math.max((f32Bits(value) >>> 23) & 0xff, 0), 254);
    case 'e6m2':
      return encodeE6m2(value);
    default: {
      const code = encodeMinifloat(scaleMinifloats[format], value);
      return code === 0 && value > 0 ? 1 : code;
    }
  }
}

const tables: Partial<Record<ScaleFormat, Float32Array>> = {};

/** Value of a scale code. */
export function decodeScale(format: ScaleFormat, code: number): number {
  switch (format) {
    case 'f32':
      return f32FromBits(code);
    case 'f16':
      return f16Value(code);
    case 'bf16':
      return bf16Value(code);
    case 'e8m0':
      return e8m0Value(code);
    case 'e6m2':
      return e6m2Value(code);
    default: {
      const table = (tables[format] ??= Float32Array.from({ length: 256 }, (_, c) =>
        decodeMinifloat(scaleMinifloats[format], c),
      ));
      return table[code]!;
    }
  }
}

/** Writes code `i` of an array of scales. */
export function writeScale(format: ScaleFormat, bytes: Uint8Array, i: number, code: number): void {
  const n = byteCounts[format];
  for (let k = 0; k < n; k++) bytes[i * n + k] = code >>> (8 * k);
}

/** Reads code `i` of an array of scales. */
export function readScale(format: ScaleFormat, bytes: Uint8Array, i: number): number {
  switch (byteCounts[format]) {
    case 1:
      return bytes[i]!;
    case 2:
      return bytes[2 * i]! | (bytes[2 * i + 1]! << 8);
    default:
      return (bytes[4 * i]! | (bytes[4 * i + 1]! << 8) | (bytes[4 * i + 2]! << 16) | (bytes[4 * i + 3]! << 24)) >>> 0;
  }
}
