// IQ4_NL and IQ4_XS: 4-bit codes into a fixed 16-entry table of integers, spaced for bell-shaped weights.
//
// IQ4_NL: 32 values and an f16 scale. IQ4_XS: 256 values, 8 sub-blocks of 32 with 6-bit scales (offset 32) under one
// f16. Method: for 15 candidate inverse scales (T[0] + k)/M, k = −7 … 7, M the signed maximum, take the nearest table
// entry for each value and keep the candidate that explains most: (Σ w·T·x)²/Σ w·T². Weights x², or
// importance·√(sigma2 + x²). On equal distance the upper table entry wins. Source: ggml's IQ4 documentation and bytes.

import {
  clamp,
  groupEpsilon,
  importanceWeights,
  nearestInt,
  reciprocal,
  signedMaximum,
  sumOfSquares,
} from './arithmetic.ts';
import type { RowCodec } from './codec.ts';
import { readHalf, writeHalf } from './half.ts';

const f = Math.fround;

/** The table T of both types. */
export const iq4Values = Int8Array.of(-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113);

const codes = new Uint8Array(256);
const weights = new Float32Array(32);
const scales = new Float32Array(8);

/** Index of the table entry nearest to v; the upper one on equal distance; the last one for NaN. */
function nearestEntry(v: number): number {
  if (v <= iq4Values[0]) return 0;
  if (v >= iq4Values[15]) return 15;
  let low = 0;
  let high = 15;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (v < iq4Values[middle]) high = middle;
    else low = middle;
  }
  return f(v - iq4Values[low]) < f(iq4Values[high] - v) ? low : high;
}

/** The scale of x[at … at+32) under `weights`; 0 for a block that counts as zero. */
function fitTable(x: Float32Array, at: number): number {
  const max = signedMaximum(x, at, 32);
  if (Math.abs(max) < groupEpsilon) return 0;
  let scale = 0;
  let best = 0;
  for (let k = -8; k <= 7; k++) {
    // The plain grid first: 1/(−M/T[0]), which rounds differently from T[0]/M.
    const inverse = k === -8 ? f(1 / f(-max / iq4Values[0])) : f((k + iq4Values[0]) / max);
    let sumXT = 0;
    let sumTT = 0;
    for (let i = 0; i < 32; i++) {
      const v = x[at + i];
      const entry = iq4Values[nearestEntry(f(inverse * v))];
      const wt = f(weights[i] * entry);
      sumXT = f(sumXT + f(wt * v));
      sumTT = f(sumTT + f(wt * entry));
    }
    if (k === -8 || (sumTT > 0 && f(sumXT * sumXT) > f(best * sumTT))) {
      scale = sumTT > 0 ? f(sumXT / sumTT) : 0;
      best = f(scale * sumXT);
    }
  }
  return scale;
}

/** Weights of x[at … at+32). */
function setWeights(x: Float32Array, at: number, sigma2: number, importance: Float32Array | undefined): void {
  if (importance) importanceWeights(x, importance, at, 32, sigma2, weights);
  else for (let i = 0; i < 32; i++) weights[i] = f(x[at + i] * x[at + i]);
}

function writeNibbles(codesAt: number, out: Uint8Array, o: number): void {
  for (let j = 0; j < 16; j++) out[o + j] = codes[codesAt + j] | (codes[codesAt + 16 + j] << 4);
}

/** d, qs[16]. */
export const iq4_nl: RowCodec = {
  encode(x, out, importance) {
    for (let at = 0, o = 0; at < x.length; at += 32, o += 18) {
      setWeights(x, at, f(sumOfSquares(x, at, 32) / 16), importance);
      const d = fitTable(x, at);
      const inverse = reciprocal(d);
      writeHalf(out, o, d);
      for (let i = 0; i < 32; i++) codes[i] = nearestEntry(f(inverse * x[at + i]));
      writeNibbles(0, out, o + 2);
    }
  },
  decode(bytes, out) {
    for (let at = 0, o = 0; at < out.length; at += 32, o += 18) {
      const d = readHalf(bytes, o);
      for (let j = 0; j < 16; j++) {
        out[at + j] = f(d * iq4Values[bytes[o + 2 + j] & 15]);
        out[at + j + 16] = f(d * iq4Values[bytes[o + 2 + j] >> 4]);
      }
    }
  },
};

/** d, scales_h (u16: 2 bits a sub-block), scales_l[4] (nibbles), qs[128]. */
export const iq4_xs: RowCodec = {
  encode(x, out, importance) {
    for (let at = 0, o = 0; at < x.length; at += 256, o += 136) {
      const sigma2 = f(sumOfSquares(x, at, 256) / 128);
      for (let j = 0; j < 8; j++) {
        setWeights(x, at + 32 * j, sigma2, importance);
        scales[j] = fitTable(x, at + 32 * j);
      }
      const d = f(-signedMaximum(scales, 0, 8) / 32);
      const inverse = reciprocal(d);
      writeHalf(out, o, d);
      out.fill(0, o + 2, o + 8);
      for (let j = 0; j < 8; j++) {
        const l = clamp(nearestInt(f(inverse * scales[j])), -32, 31);
        const toCode = reciprocal(f(d * l));
        for (let i = 32 * j; i < 32 * j + 32; i++) codes[i] = nearestEntry(f(toCode * x[at + i]));
        out[o + 2 + (j >> 2)] |= ((l + 32) >> 4) << (2 * (j & 3));
        out[o + 4 + (j >> 1)] |= ((l + 32) & 15) << (4 * (j & 1));
        writeNibbles(32 * j, out, o + 8 + 16 * j);
      }
    }
  },
  decode(bytes, out) {
    for (let at = 0, o = 0; at < out.length; at += 256, o += 136) {
      const d = readHalf(bytes, o);
      for (let j = 0; j < 8; j++) {
        const low = (bytes[o + 4 + (j >> 1)] >> (4 * (j & 1))) & 15;
        const high = (bytes[o + 2 + (j >> 2)] >> (2 * (j & 3))) & 3;
        const scale = f(d * ((low | (high << 4)) - 32));
        for (let l = 0; l < 16; l++) {
          const byte = bytes[o + 8 + 16 * j + l];
          out[at + 32 * j + l] = f(scale * iq4Values[byte & 15]);
          out[at + 32 * j + 16 + l] = f(scale * iq4Values[byte >> 4]);
        }
      }
    }
  },
};
