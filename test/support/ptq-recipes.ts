// Synthetic layers on which the published post-training methods show what they do: recipes R1 and R2 of our notes on
// them. All draws are independent and seeded.

import { gaussianMatrix } from '../../src/quantize/gaussian.ts';
import { randomOrthogonal } from '../../src/quantize/rotate/orthogonal.ts';

/** A layer [rows, cols] and inputs [tokens, cols]. */
export interface SyntheticLayer {
  rows: number;
  cols: number;
  weight: Float32Array;
  /** For calibration. */
  inputs: Float32Array;
  /** For the error; other tokens of the same distribution. */
  test: Float32Array;
}

/** Student's t with `freedom` degrees of freedom: normal / √(χ² / freedom). */
export function studentT(count: number, freedom: number, seed: number): Float32Array {
  const normal = gaussianMatrix(1, count, seed);
  const squares = gaussianMatrix(count, freedom, seed + 1);
  return normal.map((z, i) => {
    let chi = 0;
    for (let k = 0; k < freedom; k++) chi += squares[i * freedom + k] ** 2;
    return z / Math.sqrt(chi / freedom);
  });
}

/**
 * R1: W 512×512 = 0.02·t(6); X = Z·C, C = U·diag(3·exp(−k/60) + 0.05)·Uᵀ with random orthogonal U, then 6 random channels
 * ×12; up to 8192 tokens for calibration and 2048 for the test.
 */
export function correlatedLayer(seed: number, calibrationTokens = 8192): SyntheticLayer {
  const n = 512;
  const u = randomOrthogonal(n, seed);
  const mix = new Float64Array(n * n);
  for (let k = 0; k < n; k++) {
    const strength = 3 * Math.exp(-k / 60) + 0.05;
    // the columns of U are the rows of another random orthogonal matrix
    for (let i = 0; i < n; i++) {
      const left = u[k * n + i] * strength;
      for (let j = 0; j < n; j++) mix[i * n + j] += left * u[k * n + j];
    }
  }
  const loud = firstIndices(n, 6, seed + 2);
  const draw = (tokens: number, stream: number) => {
    const x = productF32(gaussianMatrix(tokens, n, stream), mix, tokens, n);
    for (let t = 0; t < tokens; t++) for (const j of loud) x[t * n + j] *= 12;
    return x;
  };
  const weight = studentT(n * n, 6, seed + 3).map((v) => 0.02 * v);
  return { rows: n, cols: n, weight, inputs: draw(calibrationTokens, seed + 5), test: draw(2048, seed + 6) };
}

/** R2: X 2048×1024 normal, channel scales exp(0.4·N), 10 channels ×40; W 1024×1024 = 0.02·N. */
export function outlierLayer(seed: number): SyntheticLayer {
  const [tokens, n] = [2048, 1024];
  const channel = gaussianMatrix(1, n, seed).map((z) => Math.exp(0.4 * z));
  for (const j of firstIndices(n, 10, seed + 1)) channel[j] *= 40;
  const inputs = gaussianMatrix(tokens, n, seed + 2).map((z, i) => z * channel[i % n]);
  const weight = gaussianMatrix(n, n, seed + 3).map((z) => 0.02 * z);
  return { rows: n, cols: n, weight, inputs, test: inputs };
}

/** `count` different random indices below n. */
function firstIndices(n: number, count: number, seed: number): number[] {
  const keys = gaussianMatrix(1, n, seed);
  return [...keys.keys()].sort((a, b) => keys[a] - keys[b]).slice(0, count);
}

function productF32(z: Float32Array, mix: Float64Array, tokens: number, n: number): Float32Array {
  const out = new Float32Array(tokens * n);
  const row = new Float64Array(n);
  for (let t = 0; t < tokens; t++) {
    row.fill(0);
    for (let k = 0; k < n; k++) {
      const value = z[t * n + k];
      for (let j = 0; j < n; j++) row[j] += value * mix[k * n + j];
    }
    out.set(row, t * n);
  }
  return out;
}

/** XᵀX of x [tokens, n], in float64: output errors of any weights follow from it. */
export function gram(x: Float32Array, n: number): Float64Array {
  const out = new Float64Array(n * n);
  for (let t = 0; t < x.length; t += n)
    for (let i = 0; i < n; i++) {
      const value = x[t + i];
      for (let j = 0; j <= i; j++) out[i * n + j] += value * x[t + j];
    }
  for (let i = 0; i < n; i++) for (let j = 0; j < i; j++) out[j * n + i] = out[i * n + j];
  return out;
}

/** ‖X · Wᵀ‖² from the Gram matrix of X; W [rows, n]. */
export function outputEnergy(w: Float32Array, g: Float64Array, n: number): number {
  let total = 0;
  const product = new Float64Array(n);
  for (let r = 0; r < w.length; r += n) {
    product.fill(0);
    for (let i = 0; i < n; i++) {
      const value = w[r + i];
      for (let j = 0; j < n; j++) product[j] += value * g[i * n + j];
    }
    for (let j = 0; j < n; j++) total += product[j] * w[r + j];
  }
  return total;
}

/** Every `step`-th row of values [·, n]. */
export function everyRow(values: Float32Array, n: number, step: number): Float32Array {
  const rows = Math.ceil(values.length / n / step);
  const out = new Float32Array(rows * n);
  for (let r = 0; r < rows; r++) out.set(values.subarray(r * step * n, (r * step + 1) * n), r * n);
  return out;
}

/** ‖a · bᵀ − c · dᵀ‖² / ‖c · dᵀ‖²: the error of a product of quantized operands [·, n]. */
export function productError(a: Float32Array, b: Float32Array, c: Float32Array, d: Float32Array, n: number): number {
  let [error, energy] = [0, 0];
  for (let t = 0; t < a.length; t += n)
    for (let r = 0; r < b.length; r += n) {
      let [got, wanted] = [0, 0];
      for (let k = 0; k < n; k++) {
        got += a[t + k] * b[r + k];
        wanted += c[t + k] * d[r + k];
      }
      error += (got - wanted) ** 2;
      energy += wanted * wanted;
    }
  return error / energy;
}
