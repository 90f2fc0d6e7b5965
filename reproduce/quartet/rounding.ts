// Errors and biases of the quantizers on Gaussian data, through the reference codec: what needs no model.
//
// Groups of 32 values a · N(0, 1), a log-uniform over an octave, since a power-of-two scale treats amplitudes between two
// powers differently. Errors are relative to the mean square of a group's values.
//   MSE           Σ (q − x)² / Σ x²
//   misalignment  1 − Σ q·x / Σ x²: what is lost of the magnitude, whatever is averaged
//   bias          the MSE of the mean of B roundings, each with random signs and a Hadamard transform of its own

import { clipBits } from '../../src/formats/clip-bits.ts';
import type { Format } from '../../src/formats/format.ts';
import { dequantize, quantize } from '../../src/formats/quantize.ts';
import { uniformSource } from '../../src/formats/random.ts';
import { parseFormat } from '../../src/formats/registry.ts';
import { gaussianMatrix } from '../../src/quantize/gaussian.ts';
import { multiplyHadamard } from '../../src/tensor/hadamard.ts';
import { drawSigns } from '../../src/train/recipes/products.ts';

export const group = 32;

export interface Quantizer {
  readonly name: string;
  readonly format: string;
  /** Factor on the rounded values. */
  readonly correction?: number;
  /** The card's MSE and misalignment. */
  readonly mse: number;
  readonly misalignment?: number;
}

export const quantizers: readonly Quantizer[] = [
  { name: 'RTN absmax, range ¾', format: 'mxfp4-fourthirds-tozero', mse: 13.7e-3, misalignment: 9.3e-3 },
  { name: 'RTN-PMA', format: 'mxfp4-fourthirds-tozero', correction: 1.009276, mse: 14.2e-3, misalignment: 2.8e-5 },
  { name: 'SR', format: 'mxfp4-fourthirds-sr', mse: 27.8e-3, misalignment: 0 },
  { name: 'QuEST, scale rounded down', format: 'mxfp4-quest-tozero', mse: 22.5e-3 },
  { name: 'QuEST, scale to nearest', format: 'mxfp4-questnearest-tozero', mse: 13.4e-3, misalignment: 1.3e-2 },
  { name: 'QuEST, real scale', format: 'fp4-e2m1-g32-quest-tozero', mse: 12.4e-3 },
  { name: 'OCP MXFP4, absmax rounded down', format: 'mxfp4', mse: 13.4e-3 },
];

export interface Amplified {
  /** [groups, 32] */
  readonly values: Float32Array;
  /** Of each group. */
  readonly amplitudes: Float64Array;
}

/** Gaussian groups with log-uniform amplitudes over `octaves`. */
export function amplified(groups: number, seed: number, octaves = 1): Amplified {
  const uniform = uniformSource(seed, 3);
  const amplitudes = Float64Array.from({ length: groups }, (_, g) => 2 ** (octaves * (uniform.at(g) - 0.5)));
  const values = gaussianMatrix(groups, group, seed).map((v, i) => v * amplitudes[Math.floor(i / group)]);
  return { values, amplitudes };
}

const round = (values: Float32Array, format: Format, seed: number, step: number) =>
  quantize(values, values.length / group, group, format, { seed, stream: 7, step });

export interface Errors {
  readonly mse: number;
  readonly misalignment: number;
  /** Share of values beyond the largest level. */
  readonly clipped: number;
}

/** Errors of one rounding of [groups, 32] values. */
export function gaussianErrors({ format, correction = 1 }: Quantizer, data: Amplified, seed: number): Errors {
  const { values, amplitudes } = data;
  const q = round(values, parseFormat(format), seed, 0);
  const found = dequantize(q);
  let [error, along, power] = [0, 0, 0];
  for (let i = 0; i < values.length; i++) {
    const weight = amplitudes[Math.floor(i / group)] ** -2;
    const [x, y] = [values[i], correction * found[i]];
    error += weight * (y - x) ** 2;
    along += weight * x * y;
    power += weight * x * x;
  }
  return { mse: error / power, misalignment: 1 - along / power, clipped: clippedShare(values, q) };
}

/** The least and the largest error of groups of one amplitude, over amplitudes spread evenly over an octave. */
export function errorRange(quantizer: Quantizer, groups: number, seed: number): { least: number; most: number } {
  const values = gaussianMatrix(groups, group, seed);
  const errors = Array.from({ length: 16 }, (_, i) => {
    const amplitude = 2 ** (i / 16);
    const scaled = values.map((v) => v * amplitude);
    return gaussianErrors(quantizer, { values: scaled, amplitudes: new Float64Array(groups).fill(amplitude) }, seed)
      .mse;
  });
  return { least: Math.min(...errors), most: Math.max(...errors) };
}

/** Values at or beyond 6 scales. */
function clippedShare(values: Float32Array, q: ReturnType<typeof quantize>): number {
  const kept = clipBits(values, q, 6).reduce((sum, word) => sum + ones(word), 0);
  return 1 - kept / values.length;
}

function ones(word: number): number {
  let left = word;
  let count = 0;
  for (; left !== 0; left &= left - 1) count++;
  return count;
}

/**
 * Relative squared error of the mean of B = 1, 4, 16, … `most` roundings; each turns the groups by random signs and a
 * Hadamard transform, rounds, and turns back.
 */
export function averagedErrors(
  { format, correction = 1 }: Quantizer,
  values: Float32Array,
  most: number,
  seed: number,
  onRound: () => void = () => {},
): { count: number; error: number }[] {
  const spec = parseFormat(format);
  const sum = new Float64Array(values.length);
  const power = values.reduce((total, v) => total + v * v, 0);
  const found: { count: number; error: number }[] = [];
  for (let count = 1, next = 1; count <= most; count++) {
    const signs = drawSigns(group, seed, count);
    const turned = Float64Array.from(values, (v, i) => v * signs[i % group]);
    multiplyHadamard(turned, group);
    const rounded = Float64Array.from(dequantize(round(Float32Array.from(turned), spec, seed, count)));
    multiplyHadamard(rounded, group);
    for (let i = 0; i < sum.length; i++) sum[i] += correction * rounded[i] * signs[i % group];
    onRound();
    if (count !== next) continue;
    const error = sum.reduce((total, s, i) => total + (s / count - values[i]) ** 2, 0);
    found.push({ count, error: error / power });
    next *= 4;
  }
  return found;
}

/** The same for the product of two matrices that are rounded stochastically, [n, 32] · [n, 32]ᵀ. */
export function averagedProductErrors(n: number, most: number, seed: number): { count: number; error: number }[] {
  const format = parseFormat('mxfp4-fourthirds-sr');
  const [a, b] = [gaussianMatrix(n, group, seed + 1), gaussianMatrix(n, group, seed + 2)];
  const product = (x: Float32Array, y: Float32Array) =>
    Float64Array.from({ length: n * n }, (_, at) => {
      const [i, j] = [Math.floor(at / n), at % n];
      let sum = 0;
      for (let k = 0; k < group; k++) sum += x[i * group + k] * y[j * group + k];
      return sum;
    });
  const exact = product(a, b);
  const power = exact.reduce((total, v) => total + v * v, 0);
  const sum = new Float64Array(n * n);
  const found: { count: number; error: number }[] = [];
  for (let count = 1, next = 1; count <= most; count++) {
    const [qa, qb] = [a, b].map((v, i) => dequantize(round(v, format, seed + i, count)));
    for (const [i, v] of product(qa, qb).entries()) sum[i] += v;
    if (count !== next) continue;
    const error = sum.reduce((total, s, i) => total + (s / count - exact[i]) ** 2, 0);
    found.push({ count, error: error / power });
    next *= 4;
  }
  return found;
}

const levels = [0, 0.5, 1, 1.5, 2, 3, 4, 6];

/** MSE of E2M1 with one real scale on N(0, 1), by Simpson's rule between the thresholds. */
export function gaussianMse(scale: number): number {
  const density = (x: number) => Math.exp((-x * x) / 2) / Math.sqrt(2 * Math.PI);
  return levels.reduce((total, level, i) => {
    const low = i === 0 ? 0 : (scale * (levels[i - 1] + level)) / 2;
    const high = i === levels.length - 1 ? 12 : (scale * (level + levels[i + 1])) / 2;
    const n = 400;
    const step = (high - low) / n;
    let sum = 0;
    for (let k = 0; k <= n; k++) {
      const x = low + k * step;
      sum += (k === 0 || k === n ? 1 : k % 2 === 1 ? 4 : 2) * (x - level * scale) ** 2 * density(x);
    }
    return total + (2 * sum * step) / 3;
  }, 0);
}

/** The scale with the smallest MSE, by golden sections. */
export function bestGaussianScale(): number {
  const ratio = (Math.sqrt(5) - 1) / 2;
  let [low, high] = [0.3, 0.7];
  for (let i = 0; i < 60; i++) {
    const [a, b] = [high - ratio * (high - low), low + ratio * (high - low)];
    if (gaussianMse(a) < gaussianMse(b)) high = b;
    else low = a;
  }
  return (low + high) / 2;
}
