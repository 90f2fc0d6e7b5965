// The types of 1 to 2.25 bits with one f16 scale a block: TQ1_0, TQ2_0 (ternary), Q2_0 (four levels), Q1_0 (signs).
//
// TQ and Q2_0: d = amax, code = round(x/d) + 1 with halves away from zero; value = d·(code − 1). Q1_0: d = mean |x|,
// value = ±d. TQ1_0 packs five base-3 digits in a byte as a binary fraction: byte = ceil(q·256/243), so digit n is
// the integer part of 3·frac(byte·3^n/256). Source: ggml's block-type documentation.

import { reciprocal, roundAway, signedMaximum } from './arithmetic.ts';
import type { RowCodec } from './codec.ts';
import { readHalf, writeHalf } from './half.ts';

const f = Math.fround;
const digits = new Uint8Array(256);

/** Digits round(x/amax) + 1 of 256 values; returns amax. */
function ternaryDigits(x: Float32Array, at: number): number {
  const d = Math.abs(signedMaximum(x, at, 256));
  const inverse = reciprocal(d);
  for (let i = 0; i < 256; i++) digits[i] = roundAway(f(x[at + i] * inverse)) + 1;
  return d;
}

/** The three runs of bytes in a TQ1_0 block: [first byte, bytes, first element, elements a byte]. */
const runs = [
  [0, 32, 0, 5],
  [32, 16, 160, 5],
  [48, 4, 240, 4],
] as const;
const powersOfThree = [1, 3, 9, 27, 81];

/** qs[48], qh[4], d. */
export const tq1_0: RowCodec = {
  encode(x, out) {
    for (let at = 0, o = 0; at < x.length; at += 256, o += 54) {
      writeHalf(out, o + 52, ternaryDigits(x, at));
      for (const [byte, count, element, depth] of runs) {
        for (let m = 0; m < count; m++) {
          let q = 0;
          for (let n = 0; n < depth; n++) q = q * 3 + digits[element + m + n * count];
          if (depth === 4) q *= 3;
          out[o + byte + m] = Math.floor(((q & 255) * 256 + 242) / 243);
        }
      }
    }
  },
  decode(bytes, out) {
    for (let at = 0, o = 0; at < out.length; at += 256, o += 54) {
      const d = readHalf(bytes, o + 52);
      for (const [byte, count, element, depth] of runs) {
        for (let m = 0; m < count; m++) {
          for (let n = 0; n < depth; n++) {
            const fraction = (bytes[o + byte + m] * powersOfThree[n]) & 255;
            out[at + element + m + n * count] = f((((fraction * 3) >> 8) - 1) * d);
          }
        }
      }
    }
  },
};

/** qs[64], d: per 128 values, byte m holds elements m, +32, +64, +96 at shifts 0, 2, 4, 6. */
export const tq2_0: RowCodec = {
  encode(x, out) {
    for (let at = 0, o = 0; at < x.length; at += 256, o += 66) {
      writeHalf(out, o + 64, ternaryDigits(x, at));
      for (let k = 0; k < 64; k++) {
        let byte = 0;
        for (let n = 0; n < 4; n++) byte |= (digits[128 * (k >> 5) + (k & 31) + 32 * n] & 3) << (2 * n);
        out[o + k] = byte;
      }
    }
  },
  decode(bytes, out) {
    for (let at = 0, o = 0; at < out.length; at += 256, o += 66) {
      const d = readHalf(bytes, o + 64);
      for (let i = 0; i < 256; i++) {
        const code = (bytes[o + 32 * (i >> 7) + (i & 31)] >> (2 * ((i >> 5) & 3))) & 3;
        out[at + i] = f((code - 1) * d);
      }
    }
  },
};

/** d, qs[16]: 128 signs, lowest bit first; a set bit is +d, and both zeros are positive. */
export const q1_0: RowCodec = {
  encode(x, out) {
    for (let at = 0, o = 0; at < x.length; at += 128, o += 18) {
      let sum = 0;
      for (let i = 0; i < 128; i++) sum = f(sum + Math.abs(x[at + i]));
      writeHalf(out, o, f(sum / 128));
      for (let k = 0; k < 16; k++) {
        let byte = 0;
        for (let j = 0; j < 8; j++) if (x[at + 8 * k + j] >= 0) byte |= 1 << j;
        out[o + 2 + k] = byte;
      }
    }
  },
  decode(bytes, out) {
    for (let at = 0, o = 0; at < out.length; at += 128, o += 18) {
      const d = readHalf(bytes, o);
      for (let i = 0; i < 128; i++) out[at + i] = (bytes[o + 2 + (i >> 3)] >> (i & 7)) & 1 ? d : -d;
    }
  },
};

/** d, qs[16]: 64 codes 0 … 3, four a byte, lowest bits first; value d·(code − 1). */
export const q2_0: RowCodec = {
  encode(x, out) {
    for (let at = 0, o = 0; at < x.length; at += 64, o += 18) {
      const d = Math.abs(signedMaximum(x, at, 64));
      const inverse = reciprocal(d);
      writeHalf(out, o, d);
      for (let k = 0; k < 16; k++) {
        let byte = 0;
        for (let j = 0; j < 4; j++) {
          const code = roundAway(f(x[at + 4 * k + j] * inverse)) + 1;
          byte |= Math.max(0, Math.min(3, code)) << (2 * j);
        }
        out[o + 2 + k] = byte;
      }
    }
  },
  decode(bytes, out) {
    for (let at = 0, o = 0; at < out.length; at += 64, o += 18) {
      const d = readHalf(bytes, o);
      for (let i = 0; i < 64; i++) out[at + i] = f((((bytes[o + 2 + (i >> 2)] >> (2 * (i & 3))) & 3) - 1) * d);
    }
  },
};
