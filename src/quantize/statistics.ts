// What a tensor's values look like, in the figures that decide which format suits it.
//
// amax = max|x|, rms, crest factor = amax / rms (large: outliers decide the scale), kurtosis = E[x⁴]/E[x²]² (3 for a
// Gaussian; about zero mean, as weights are), share of zeros, and QSNR = 10·log10(Σx² / Σ(x − x̂)²) in dB under a
// format. Sums in float64.

import type { Format } from '../formats/format.ts';
import { dequantize, quantize } from '../formats/quantize.ts';

export interface TensorStatistics {
  count: number;
  amax: number;
  mean: number;
  rms: number;
  crestFactor: number;
  kurtosis: number;
  zeros: number;
  /** NaN or infinite values. */
  nonFinite: number;
}

/** Statistics of the finite values of `x`. */
export function tensorStatistics(x: Float32Array): TensorStatistics {
  let amax = 0;
  let sum = 0;
  let s2 = 0;
  let s4 = 0;
  let zeros = 0;
  let nonFinite = 0;
  for (let i = 0; i < x.length; i++) {
    const v = x[i];
    if (!Number.isFinite(v)) {
      nonFinite++;
      continue;
    }
    const a = Math.abs(v);
    if (a > amax) amax = a;
    if (v === 0) zeros++;
    const q = v * v;
    sum += v;
    s2 += q;
    s4 += q * q;
  }
  const n = Math.max(1, x.length - nonFinite);
  const rms = Math.sqrt(s2 / n);
  return {
    count: x.length,
    amax,
    mean: sum / n,
    rms,
    crestFactor: rms > 0 ? amax / rms : 0,
    kurtosis: s2 > 0 ? s4 / n / (s2 / n) ** 2 : 0,
    zeros,
    nonFinite,
  };
}

/** Signal-to-quantization-noise ratio in dB of storing x [rows, cols] in a format; Infinity when exact. */
export function quantizationSnr(x: Float32Array, rows: number, cols: number, format: Format): number {
  const back = dequantize(quantize(x, rows, cols, format));
  let signal = 0;
  let noise = 0;
  for (let i = 0; i < x.length; i++) {
    signal += x[i] * x[i];
    noise += (x[i] - back[i]) ** 2;
  }
  return noise === 0 ? Number.POSITIVE_INFINITY : 10 * Math.log10(signal / noise);
}
