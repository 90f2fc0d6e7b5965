// MXFP4 and NVFP4 as ggml stores them: E2M1 codes with a power-of-two scale per 32, or an unsigned E4M3 scale per 16.
//
// Codes are the nearest of T·d, T the doubled E2M1 table {0, 1, 2, 3, 4, 6, 8, 12 and negatives}, d half the scale; on
// equal distance the lower code, so ties go to the smaller magnitude and zero has no sign. T·d is exact and so is the
// comparison with the midpoints, which is how it is done here.
//   MXFP4: scale byte = floor(log2f(amax)) − 2 + 127, kept modulo 256. The f32 logarithm rounds up just below powers
//     of two (other MX rules read the exponent instead); amax 0 gives byte 0.
//   NVFP4: scale = amax/6 rounded to E4M3 half up; anything ≥ 248 becomes 448. A tensor scale is no part of the
//     block; in GGUF it is a separate tensor.
// Source: ggml's block-type documentation and its x86-64 bytes.

import { signedMaximum } from './arithmetic.ts';
import type { RowCodec } from './codec.ts';

const f = Math.fround;
const doubled = Int8Array.of(0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12);

/** The definition: the first entry with the smallest f32 distance. */
function searchCode(x: number, d: number): number {
  let code = 0;
  let best = Math.abs(x);
  for (let i = 1; i < 16; i++) {
    const distance = Math.abs(f(f(doubled[i] * d) - x));
    if (distance < best) {
      best = distance;
      code = i;
    }
  }
  return code;
}

/** Code of x for half-scale d: how many midpoints |x| exceeds, and the sign unless the code is zero. */
function nearestCode(x: number, d: number): number {
  const a = Math.abs(x);
  // Far beyond the table distances round to equal numbers, and at the end of the f32 range T·d overflows.
  if (a > 65536 * d || d > 2 ** 123) return searchCode(x, d);
  let code: number;
  if (a > 2.5 * d) code = a > 5 * d ? (a > 10 * d ? 7 : a > 7 * d ? 6 : 5) : a > 3.5 * d ? 4 : 3;
  else code = a > 1.5 * d ? 2 : a > 0.5 * d ? 1 : 0;
  return x < 0 && code !== 0 ? code | 8 : code;
}

/** Half of the scale 2^(byte − 127); byte 0 and 1 give the subnormals 2^−128 and 2^−127. */
const halfPowers = Float32Array.from({ length: 256 }, (_, byte) => 2 ** (byte - 128));

/** e, qs[16]: byte j holds element j (low nibble) and j + 16 (high). */
export const mxfp4: RowCodec = {
  encode(x, out) {
    for (let at = 0, o = 0; at < x.length; at += 32, o += 17) {
      const amax = Math.abs(signedMaximum(x, at, 32));
      const byte = amax > 0 ? (Math.floor(f(Math.log2(amax))) + 125) & 255 : 0;
      const d = halfPowers[byte];
      out[o] = byte;
      for (let j = 0; j < 16; j++) out[o + 1 + j] = nearestCode(x[at + j], d) | (nearestCode(x[at + j + 16], d) << 4);
    }
  },
  decode(bytes, out) {
    for (let at = 0, o = 0; at < out.length; at += 32, o += 17) {
      const d = halfPowers[bytes[o]];
      for (let j = 0; j < 16; j++) {
        out[at + j] = f(doubled[bytes[o + 1 + j] & 15] * d);
        out[at + j + 16] = f(doubled[bytes[o + 1 + j] >> 4] * d);
      }
    }
  },
};

/** Half of the value of each unsigned E4M3 code; 0x7f and the codes above count as their low seven bits, NaN as 0. */
const halfScales = Float32Array.from({ length: 256 }, (_, code) => {
  const exponent = (code >> 3) & 15;
  const mantissa = code & 7;
  if (code === 0x7f) return 0;
  return (exponent === 0 ? mantissa * 2 ** -9 : (8 + mantissa) * 2 ** (exponent - 10)) / 2;
});

const floatView = new Float32Array(1);
const bitsView = new Int32Array(floatView.buffer);

/** Unsigned E4M3 code of a block scale. */
function scaleCode(scale: number): number {
  if (!(scale > 0)) return 0;
  floatView[0] = Math.min(scale, 448);
  const bits = bitsView[0];
  const exponent = (bits >> 23) - 127 + 7;
  if (exponent <= 0) return Math.min(7, Math.trunc(f(f(floatView[0] * 512) + 0.5)));
  // Three fraction bits, rounded half up; a carry moves into the exponent field.
  const code = (exponent << 3) + ((((bits >> 19) & 15) + 1) >> 1);
  return exponent >= 15 || code >= 0x78 ? 0x7e : code;
}

/** d[4], qs[32]: sub-block s has bytes 8s … 8s+7, byte j holds its element j (low nibble) and j + 8 (high). */
export const nvfp4: RowCodec = {
  encode(x, out) {
    for (let at = 0, o = 0; at < x.length; at += 64, o += 36) {
      for (let s = 0; s < 4; s++) {
        const from = at + 16 * s;
        const code = scaleCode(f(Math.abs(signedMaximum(x, from, 16)) / 6));
        const d = halfScales[code];
        out[o + s] = code;
        for (let j = 0; j < 8; j++) {
          out[o + 4 + 8 * s + j] = nearestCode(x[from + j], d) | (nearestCode(x[from + j + 8], d) << 4);
        }
      }
    }
  },
  decode(bytes, out) {
    for (let at = 0, o = 0; at < out.length; at += 64, o += 36) {
      for (let s = 0; s < 4; s++) {
        const d = halfScales[bytes[o + s]];
        for (let j = 0; j < 8; j++) {
          const byte = bytes[o + 4 + 8 * s + j];
          out[at + 16 * s + j] = f(doubled[byte & 15] * d);
          out[at + 16 * s + j + 8] = f(doubled[byte >> 4] * d);
        }
      }
    }
  },
};
