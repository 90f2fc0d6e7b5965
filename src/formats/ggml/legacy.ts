// Q4_0, Q4_1, Q5_0, Q5_1 and Q8_0: 32 values, one f16 scale d, and for the _1 types an f16 minimum m.
//
// Without importance weights the scale follows from the extreme values and the code is truncated from x/d + offset:
//   Q4_0, Q5_0: d = M/−2^(b−1), M the signed maximum; value = d·(q − 2^(b−1)).
//   Q4_1, Q5_1: d = (max − min)/(2^b − 1), m = min;  value = d·q + m.
//   Q8_0:       d = amax/127, halves rounded away from zero; value = d·q.
// With them the searches of the K types run per block (Q8_0 ignores them). The fifth bit of Q5 codes is in a 32-bit
// mask. Nibbles: byte j holds element j (low) and j + 16 (high). Source: ggml's block-type documentation.

import { importanceWeights, reciprocal, roundAway, signedMaximum, sumOfSquares, truncateToInt } from './arithmetic.ts';
import type { RowCodec } from './codec.ts';
import { readHalf, writeHalf } from './half.ts';
import { type AffineFit, fitAffine, importanceSearch } from './search-affine.ts';
import { fitSymmetric } from './search-symmetric.ts';

const f = Math.fround;
const block = 32;
const codes = new Uint8Array(block);
const weights = new Float32Array(block);
const fit: AffineFit = { scale: 0, offset: 0 };

/** Writes 32 codes of 4 or 5 bits: the mask of fifth bits (for 5) and the nibbles. */
function writeCodes(out: Uint8Array, at: number, bits: 4 | 5): void {
  let nibblesAt = at;
  if (bits === 5) {
    nibblesAt += 4;
    for (let k = 0; k < 4; k++) {
      let mask = 0;
      for (let j = 0; j < 8; j++) mask |= ((codes[8 * k + j] >> 4) & 1) << j;
      out[at + k] = mask;
    }
  }
  for (let j = 0; j < 16; j++) out[nibblesAt + j] = (codes[j] & 15) | ((codes[j + 16] & 15) << 4);
}

function readCodes(bytes: Uint8Array, at: number, bits: 4 | 5): void {
  const nibblesAt = bits === 5 ? at + 4 : at;
  for (let j = 0; j < 16; j++) {
    codes[j] = bytes[nibblesAt + j] & 15;
    codes[j + 16] = bytes[nibblesAt + j] >> 4;
  }
  if (bits === 5) for (let j = 0; j < 32; j++) codes[j] |= ((bytes[at + (j >> 3)] >> (j & 7)) & 1) << 4;
}

/** Row variance estimate that steadies the importance weights: Σ x²/cols. */
const rowSigma2 = (x: Float32Array): number => f(sumOfSquares(x, 0, x.length) / x.length);

/** Q4_0 and Q5_0. */
function symmetricCodec(bits: 4 | 5): RowCodec {
  const half = 1 << (bits - 1);
  const bytes = bits === 4 ? 18 : 22;
  return {
    encode(x, out, importance) {
      const sigma2 = importance ? rowSigma2(x) : 0;
      for (let at = 0, o = 0; at < x.length; at += block, o += bytes) {
        if (importance) {
          importanceWeights(x, importance, at, block, sigma2, weights);
          writeHalf(out, o, fitSymmetric(x, at, block, half, weights, 0, codes, 0));
        } else {
          const d = f(signedMaximum(x, at, block) / -half);
          const inverse = reciprocal(d);
          writeHalf(out, o, d);
          for (let j = 0; j < block; j++) {
            // The conversion in C goes through a signed byte.
            const q = (truncateToInt(f(f(x[at + j] * inverse) + (half + 0.5))) << 24) >> 24;
            codes[j] = Math.min(2 * half - 1, q);
          }
        }
        writeCodes(out, o + 2, bits);
      }
    },
    decode(source, out) {
      for (let at = 0, o = 0; at < out.length; at += block, o += bytes) {
        const d = readHalf(source, o);
        readCodes(source, o + 2, bits);
        for (let j = 0; j < block; j++) out[at + j] = f((codes[j] - half) * d);
      }
    },
  };
}

/** Q4_1 and Q5_1. */
function affineCodec(bits: 4 | 5): RowCodec {
  const qmax = (1 << bits) - 1;
  const bytes = bits === 4 ? 20 : 24;
  return {
    encode(x, out, importance) {
      const sigma2 = importance ? rowSigma2(x) : 0;
      for (let at = 0, o = 0; at < x.length; at += block, o += bytes) {
        if (importance) {
          importanceWeights(x, importance, at, block, sigma2, weights);
          fitAffine(x, at, block, weights, qmax, importanceSearch, codes, 0, fit);
          writeHalf(out, o, fit.scale);
          writeHalf(out, o + 2, -fit.offset);
        } else {
          let min = x[at];
          let max = x[at];
          for (let j = 1; j < block; j++) {
            if (x[at + j] < min) min = x[at + j];
            if (x[at + j] > max) max = x[at + j];
          }
          const d = f(f(max - min) / qmax);
          const inverse = reciprocal(d);
          writeHalf(out, o, d);
          writeHalf(out, o + 2, min);
          for (let j = 0; j < block; j++) {
            const q = truncateToInt(f(f(f(x[at + j] - min) * inverse) + 0.5));
            codes[j] = bits === 4 ? Math.min(15, (q << 24) >> 24) : q;
          }
        }
        writeCodes(out, o + 4, bits);
      }
    },
    decode(source, out) {
      for (let at = 0, o = 0; at < out.length; at += block, o += bytes) {
        const d = readHalf(source, o);
        const m = readHalf(source, o + 2);
        readCodes(source, o + 4, bits);
        for (let j = 0; j < block; j++) out[at + j] = f(f(codes[j] * d) + m);
      }
    },
  };
}

export const q4_0 = symmetricCodec(4);
export const q5_0 = symmetricCodec(5);
export const q4_1 = affineCodec(4);
export const q5_1 = affineCodec(5);

export const q8_0: RowCodec = {
  encode(x, out) {
    for (let at = 0, o = 0; at < x.length; at += block, o += 34) {
      const d = f(Math.abs(signedMaximum(x, at, block)) / 127);
      const inverse = reciprocal(d);
      writeHalf(out, o, d);
      for (let j = 0; j < block; j++) out[o + 2 + j] = roundAway(f(x[at + j] * inverse));
    }
  },
  decode(source, out) {
    for (let at = 0, o = 0; at < out.length; at += block, o += 34) {
      const d = readHalf(source, o);
      for (let j = 0; j < block; j++) out[at + j] = f(((source[o + 2 + j] << 24) >> 24) * d);
    }
  },
};
