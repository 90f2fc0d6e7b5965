// Q3_K and Q6_K: 256 values in 16 sub-blocks of 16 with a signed scale each; value = d·sc·q.
//
// Q3_K: codes −4 … 3, 6-bit scales offset by 32. Q6_K: codes −32 … 31, int8 scales.
// Method: search a scale per sub-block (Q3_K: coordinate ascent; Q6_K and every importance-weighted case: the 19-point
// scan), divide the scales by the one of largest magnitude, round the values again with the stored scales. A
// sub-block whose stored scale is zero keeps the codes of its search.
// Source: ggml's K-quant documentation and its x86-64 bytes.

import { clamp, groupEpsilon, importanceWeights, nearestInt, signedMaximum, sumOfSquares } from './arithmetic.ts';
import type { RowCodec } from './codec.ts';
import { readHalf, writeHalf } from './half.ts';
import { readTwoBits, writeTwoBits } from './k-affine.ts';
import { fitCoordinates, fitSymmetric } from './search-symmetric.ts';

const f = Math.fround;
const codes = new Uint8Array(256);
const weights = new Float32Array(16);
const weightSums = new Float32Array(16);
const scales = new Float32Array(16);
const scaleCodes = new Uint8Array(16);

/** Round x[at … at+16) again with a stored scale; codes are offset by m. */
function requantize(x: Float32Array, at: number, scale: number, m: number, codesAt: number): void {
  if (scale === 0) return;
  for (let i = 0; i < 16; i++) codes[codesAt + i] = clamp(nearestInt(f(x[at + i] / scale)), -m, m - 1) + m;
}

/** Search the 16 scales of a Q3_K super-block, fill scaleCodes (0 … 63), and return the super-scale before f16. */
function fitThreeBits(x: Float32Array, at: number, importance: Float32Array | undefined): number {
  if (importance) {
    const sigma2 = f(sumOfSquares(x, at, 256) / 128);
    for (let j = 0; j < 16; j++) {
      weightSums[j] = importanceWeights(x, importance, at + 16 * j, 16, sigma2, weights);
      scales[j] = fitSymmetric(x, at + 16 * j, 16, 4, weights, 0, codes, 16 * j);
    }
    return fitSymmetric(scales, 0, 16, 32, weightSums, 0, scaleCodes, 0);
  }
  for (let j = 0; j < 16; j++) scales[j] = fitCoordinates(x, at + 16 * j, 16, 4, codes, 16 * j);
  const max = signedMaximum(scales, 0, 16);
  if (max === 0) {
    scaleCodes.fill(0);
    return 0;
  }
  const inverse = f(-32 / max);
  for (let j = 0; j < 16; j++) scaleCodes[j] = clamp(nearestInt(f(inverse * scales[j])), -32, 31) + 32;
  return f(1 / inverse);
}

/** hmask[32], qs[64], scales[12], d. The third code bit of element i is bit i/32 of hmask[i % 32]. */
export const q3_k: RowCodec = {
  encode(x, out, importance) {
    for (let at = 0, o = 0; at < x.length; at += 256, o += 110) {
      writeHalf(out, o + 108, fitThreeBits(x, at, importance));
      const d = readHalf(out, o + 108);
      for (let j = 0; j < 4; j++) {
        out[o + 96 + j] = (scaleCodes[j] & 15) | ((scaleCodes[j + 8] & 15) << 4);
        out[o + 100 + j] = (scaleCodes[j + 4] & 15) | ((scaleCodes[j + 12] & 15) << 4);
        let high = 0;
        for (let k = 0; k < 4; k++) high |= (scaleCodes[j + 4 * k] >> 4) << (2 * k);
        out[o + 104 + j] = high;
      }
      for (let j = 0; j < 16; j++) {
        // A block without any scale stores zeros, which read back as −32.
        requantize(x, at + 16 * j, f(d * (scaleCodes[j] - 32)), 4, 16 * j);
      }
      for (let l = 0; l < 32; l++) {
        let mask = 0;
        for (let k = 0; k < 8; k++) mask |= (codes[32 * k + l] >> 2) << k;
        out[o + l] = mask;
      }
      writeTwoBits(codes, out, o + 32);
    }
  },
  decode(bytes, out) {
    for (let at = 0, o = 0; at < out.length; at += 256, o += 110) {
      const d = readHalf(bytes, o + 108);
      readTwoBits(bytes, o + 32, codes);
      for (let j = 0; j < 16; j++) {
        const low = j < 8 ? bytes[o + 96 + j] & 15 : bytes[o + 88 + j] >> 4;
        const high = (bytes[o + 104 + (j & 3)] >> (2 * (j >> 2))) & 3;
        const scale = f(d * ((low | (high << 4)) - 32));
        for (let i = 16 * j; i < 16 * j + 16; i++) {
          const bit = (bytes[o + (i & 31)] >> (i >> 5)) & 1;
          out[at + i] = f(scale * (codes[i] - (bit ? 0 : 4)));
        }
      }
    }
  },
};

/** ql[128], qh[64], scales[16] (int8), d. */
export const q6_k: RowCodec = {
  encode(x, out, importance) {
    for (let at = 0, o = 0; at < x.length; at += 256, o += 210) {
      for (let j = 0; j < 16; j++) {
        scales[j] = fitSymmetric(x, at + 16 * j, 16, 32, importance, at + 16 * j, codes, 16 * j);
      }
      const max = signedMaximum(scales, 0, 16);
      if (Math.abs(max) < groupEpsilon) {
        out.fill(0, o, o + 210);
        continue;
      }
      const inverse = f(-128 / max);
      writeHalf(out, o + 208, f(1 / inverse));
      const d = readHalf(out, o + 208);
      for (let j = 0; j < 16; j++) {
        out[o + 192 + j] = Math.min(127, nearestInt(f(inverse * scales[j])));
        requantize(x, at + 16 * j, f(d * ((out[o + 192 + j] << 24) >> 24)), 32, 16 * j);
      }
      for (let h = 0; h < 2; h++) {
        for (let l = 0; l < 32; l++) {
          const i = 128 * h + l;
          const a = codes[i];
          const b = codes[i + 32];
          const c = codes[i + 64];
          const e = codes[i + 96];
          out[o + 64 * h + l] = (a & 15) | ((c & 15) << 4);
          out[o + 64 * h + 32 + l] = (b & 15) | ((e & 15) << 4);
          out[o + 128 + 32 * h + l] = (a >> 4) | ((b >> 4) << 2) | ((c >> 4) << 4) | ((e >> 4) << 6);
        }
      }
    }
  },
  decode(bytes, out) {
    for (let at = 0, o = 0; at < out.length; at += 256, o += 210) {
      const d = readHalf(bytes, o + 208);
      for (let i = 0; i < 256; i++) {
        const half = i >> 7;
        const quarter = (i >> 5) & 3;
        const l = i & 31;
        const low = (bytes[o + 64 * half + 32 * (quarter & 1) + l] >> (4 * (quarter >> 1))) & 15;
        const high = (bytes[o + 128 + 32 * half + l] >> (2 * quarter)) & 3;
        const scale = f(d * ((bytes[o + 192 + (i >> 4)] << 24) >> 24));
        out[at + i] = f(scale * ((low | (high << 4)) - 32));
      }
    }
  },
};
