// Q2_K, Q4_K and Q5_K: 256 values in sub-blocks with a scale and a minimum each; value = d·sc·q − dmin·m.
//
// Sub-block scales and minima (16 × 4 bits in Q2_K, 8 × 6 bits in Q4_K and Q5_K) are codes under two f16 super-scales.
// Method: fitAffine per sub-block, then quantize the 8 or 16 scales and minima against their maximum (with importance
// weights: by fitPositive under the sub-blocks' weight sums), then round the values again with the stored scales. A
// sub-block whose stored scale became zero keeps the codes of its search.
// Source: ggml's K-quant documentation and its x86-64 bytes.

import { clamp, importanceWeights, nearestInt, sumOfSquares } from './arithmetic.ts';
import type { RowCodec } from './codec.ts';
import { halfBits, halfValue, readHalf } from './half.ts';
import { type AffineFit, type AffineSearch, fitAffine, fitPositive, importanceSearch } from './search-affine.ts';

const f = Math.fround;
const codes = new Uint8Array(256);
const weights = new Float32Array(32);
const weightSums = new Float32Array(16);
const scales = new Float32Array(16);
const mins = new Float32Array(16);
const scaleCodes = new Uint8Array(16);
const minCodes = new Uint8Array(16);
const fit: AffineFit = { scale: 0, offset: 0 };

/** Plain quantization of scales or minima against their maximum; returns the super-scale before f16. */
function againstMaximum(values: Float32Array, n: number, qmax: number, out: Uint8Array): number {
  let max = 0;
  for (let j = 0; j < n; j++) if (values[j] > max) max = values[j];
  const inverse = max > 0 ? f(qmax / max) : 0;
  for (let j = 0; j < n; j++) out[j] = Math.min(qmax, nearestInt(f(inverse * values[j])) & 255);
  return f(max / qmax);
}

interface Shape {
  /** Values in a sub-block. */
  size: number;
  /** Largest code of a value and of a scale. */
  qmax: number;
  scaleMax: number;
  search: AffineSearch;
}

/**
 * Fit all sub-blocks of x[at … at+256), quantize scales and minima, and round the values again.
 * Leaves codes, scaleCodes and minCodes; returns the bit patterns of d and dmin.
 */
function encodeSuperBlock(x: Float32Array, at: number, shape: Shape, importance: Float32Array | undefined) {
  const { size, qmax, scaleMax } = shape;
  const n = 256 / size;
  const total = importance ? sumOfSquares(x, at, 256) : 0;
  const sigma2 = f(size === 16 ? total / 256 : total / 128);
  for (let j = 0; j < n; j++) {
    const from = at + j * size;
    if (importance) {
      weightSums[j] = importanceWeights(x, importance, from, size, sigma2, weights);
    } else {
      const average = size === 16 ? 0 : f(Math.sqrt(f(sumOfSquares(x, from, size) / size)));
      for (let i = 0; i < size; i++) weights[i] = f(average + Math.abs(x[from + i]));
    }
    fitAffine(x, from, size, weights, qmax, importance ? importanceSearch : shape.search, codes, j * size, fit);
    scales[j] = fit.scale;
    mins[j] = fit.offset;
  }
  const d = importance
    ? fitPositive(scales, n, weightSums, scaleMax, scaleCodes)
    : againstMaximum(scales, n, scaleMax, scaleCodes);
  const dmin = importance
    ? fitPositive(mins, n, weightSums, scaleMax, minCodes)
    : againstMaximum(mins, n, scaleMax, minCodes);
  return { d: halfBits(d), dmin: halfBits(dmin) };
}

/** Round the values again with the scales as stored. */
function requantize(x: Float32Array, at: number, shape: Shape, d: number, dmin: number): void {
  const { size, qmax } = shape;
  for (let j = 0; j < 256 / size; j++) {
    const scale = f(d * scaleCodes[j]);
    if (scale === 0) continue;
    const offset = f(dmin * minCodes[j]);
    for (let i = j * size; i < (j + 1) * size; i++) {
      codes[i] = clamp(nearestInt(f(f(x[at + i] + offset) / scale)), 0, qmax);
    }
  }
}

const q2Shape: Shape = {
  size: 16,
  qmax: 3,
  scaleMax: 15,
  search: { start: f(-0.5), step: f(0.1), steps: 15, absolute: true },
};

/** scales[16] (low nibble scale, high nibble minimum), qs[64], d, dmin. */
export const q2_k: RowCodec = {
  encode(x, out, importance) {
    for (let at = 0, o = 0; at < x.length; at += 256, o += 84) {
      const { d, dmin } = encodeSuperBlock(x, at, q2Shape, importance);
      for (let j = 0; j < 16; j++) out[o + j] = scaleCodes[j] | (minCodes[j] << 4);
      requantize(x, at, q2Shape, halfValue(d), halfValue(dmin));
      writeTwoBits(codes, out, o + 16);
      out[o + 80] = d & 255;
      out[o + 81] = d >> 8;
      out[o + 82] = dmin & 255;
      out[o + 83] = dmin >> 8;
    }
  },
  decode(bytes, out) {
    for (let at = 0, o = 0; at < out.length; at += 256, o += 84) {
      const d = readHalf(bytes, o + 80);
      const dmin = readHalf(bytes, o + 82);
      readTwoBits(bytes, o + 16, codes);
      for (let j = 0; j < 16; j++) {
        const scale = f(d * (bytes[o + j] & 15));
        const offset = f(dmin * (bytes[o + j] >> 4));
        for (let i = 16 * j; i < 16 * j + 16; i++) out[at + i] = f(f(scale * codes[i]) - offset);
      }
    }
  },
};

/** 256 two-bit codes: byte 32·h + l holds elements 128·h + l, +32, +64, +96 at shifts 0, 2, 4, 6. */
export function writeTwoBits(from: Uint8Array, out: Uint8Array, at: number): void {
  for (let h = 0; h < 2; h++) {
    for (let l = 0; l < 32; l++) {
      const i = 128 * h + l;
      out[at + 32 * h + l] =
        (from[i] & 3) | ((from[i + 32] & 3) << 2) | ((from[i + 64] & 3) << 4) | ((from[i + 96] & 3) << 6);
    }
  }
}

export function readTwoBits(bytes: Uint8Array, at: number, to: Uint8Array): void {
  for (let i = 0; i < 256; i++) to[i] = (bytes[at + 32 * (i >> 7) + (i & 31)] >> (2 * ((i >> 5) & 3))) & 3;
}

/** Eight 6-bit scales and eight 6-bit minima in 12 bytes: low six bits of the first four, then split nibbles. */
function writeSixBits(out: Uint8Array, at: number): void {
  for (let j = 0; j < 4; j++) {
    const scale = scaleCodes[j + 4];
    const min = minCodes[j + 4];
    out[at + j] = scaleCodes[j] | ((scale >> 4) << 6);
    out[at + 4 + j] = minCodes[j] | ((min >> 4) << 6);
    out[at + 8 + j] = (scale & 15) | ((min & 15) << 4);
  }
}

function readSixBits(bytes: Uint8Array, at: number): void {
  for (let j = 0; j < 4; j++) {
    const scale = bytes[at + j];
    const min = bytes[at + 4 + j];
    const low = bytes[at + 8 + j];
    scaleCodes[j] = scale & 63;
    minCodes[j] = min & 63;
    scaleCodes[j + 4] = (low & 15) | ((scale >> 6) << 4);
    minCodes[j + 4] = (low >> 4) | ((min >> 6) << 4);
  }
}

/** d, dmin, scales[12], (qh[32] for 5 bits), qs[128]: per 64 values, low nibbles the first 32, high nibbles the rest. */
function sixBitCodec(bits: 4 | 5, shape: Shape): RowCodec {
  const bytesPerBlock = bits === 4 ? 144 : 176;
  const nibbles = bits === 4 ? 16 : 48;
  return {
    encode(x, out, importance) {
      for (let at = 0, o = 0; at < x.length; at += 256, o += bytesPerBlock) {
        const { d, dmin } = encodeSuperBlock(x, at, shape, importance);
        out[o] = d & 255;
        out[o + 1] = d >> 8;
        out[o + 2] = dmin & 255;
        out[o + 3] = dmin >> 8;
        writeSixBits(out, o + 4);
        readSixBits(out, o + 4);
        requantize(x, at, shape, halfValue(d), halfValue(dmin));
        for (let l = 0; l < 32; l++) {
          let high = 0;
          for (let c = 0; c < 4; c++) {
            const first = codes[64 * c + l];
            const second = codes[64 * c + 32 + l];
            out[o + nibbles + 32 * c + l] = (first & 15) | ((second & 15) << 4);
            high |= ((first >> 4) << (2 * c)) | ((second >> 4) << (2 * c + 1));
          }
          if (bits === 5) out[o + 16 + l] = high;
        }
      }
    },
    decode(bytes, out) {
      for (let at = 0, o = 0; at < out.length; at += 256, o += bytesPerBlock) {
        const d = readHalf(bytes, o);
        const dmin = readHalf(bytes, o + 2);
        readSixBits(bytes, o + 4);
        for (let j = 0; j < 8; j++) {
          const scale = f(d * scaleCodes[j]);
          const offset = f(dmin * minCodes[j]);
          const from = o + nibbles + 32 * (j >> 1);
          for (let l = 0; l < 32; l++) {
            let q = (bytes[from + l] >> (4 * (j & 1))) & 15;
            if (bits === 5) q |= ((bytes[o + 16 + l] >> j) & 1) << 4;
            out[at + 32 * j + l] = f(f(scale * q) - offset);
          }
        }
      }
    },
  };
}

export const q4_k = sixBitCodec(4, {
  size: 32,
  qmax: 15,
  scaleMax: 63,
  search: { start: f(-1), step: f(0.1), steps: 20, absolute: false },
});

export const q5_k = sixBitCodec(5, {
  size: 32,
  qmax: 31,
  scaleMax: 63,
  search: { start: f(-0.5), step: f(0.1), steps: 15, absolute: false },
});
