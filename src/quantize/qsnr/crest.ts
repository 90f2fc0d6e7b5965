// Crest factors of a matrix, block by block, and how well formats keep it.

import type { Format } from '../../formats/format.ts';
import { dequantize, quantize } from '../../formats/quantize.ts';
import { multiplyHadamard, randomSigns } from '../../tensor/hadamard.ts';

export interface CrestFactors {
  /** Mean over blocks that are not all zero. */
  mean: number;
  /** 25, 50 and 75 %. */
  quartiles: [number, number, number];
  max: number;
  blocks: number;
}

/** κ = max|x|/RMS(x) of every run of `block` values of x (a row of K is a whole number of runs); 0 for zeros. */
export function blockCrests(x: Float32Array, block: number): Float64Array {
  return Float64Array.from({ length: x.length / block }, (_, b) => {
    let amax = 0;
    let sum = 0;
    for (let i = b * block; i < (b + 1) * block; i++) {
      amax = Math.max(amax, Math.abs(x[i]));
      sum += x[i] * x[i];
    }
    return sum > 0 ? amax / Math.sqrt(sum / block) : 0;
  });
}

/** Figures of the crest factors of x in blocks; zeros when all values are. */
export function crestFactors(x: Float32Array, block: number): CrestFactors {
  const crests = blockCrests(x, block)
    .filter((c) => c > 0)
    .sort();
  const n = crests.length;
  if (n === 0) return { mean: 0, quartiles: [0, 0, 0], max: 0, blocks: 0 };
  const at = (q: number) => crests[Math.min(n - 1, Math.floor(q * n))];
  return {
    mean: crests.reduce((a, b) => a + b, 0) / n,
    quartiles: [at(0.25), at(0.5), at(0.75)],
    max: crests[n - 1],
    blocks: n,
  };
}

/** Sums of squares of signal and error, by block of `block` values, of storing x [rows, cols] in a format. */
export function blockErrors(
  x: Float32Array,
  rows: number,
  cols: number,
  format: Format,
  block: number,
): { signal: Float64Array; noise: Float64Array } {
  const back = dequantize(quantize(x, rows, cols, format));
  const signal = new Float64Array(x.length / block);
  const noise = new Float64Array(x.length / block);
  for (let i = 0; i < x.length; i++) {
    const b = Math.floor(i / block);
    signal[b] += x[i] * x[i];
    noise[b] += (x[i] - back[i]) ** 2;
  }
  return { signal, noise };
}

/** x with every run of `size` values multiplied by a Hadamard matrix after random signs; `size` divides x.length. */
export function rotated(x: Float32Array, size: number, seed: number): Float32Array {
  const signs = randomSigns(size, seed);
  const values = Float64Array.from(x, (v, i) => v * signs[i % size]);
  multiplyHadamard(values, size);
  return Float32Array.from(values);
}
