// Layers with known statistics for the tests of weight solving, from the counter-based generator.

import { gaussianMatrix } from '../gaussian.ts';

/** x [tokens, features] whose features are correlated and of very different size. */
export function correlatedInputs(tokens: number, features: number, seed: number): Float32Array {
  const z = gaussianMatrix(tokens, features, seed);
  const x = new Float32Array(tokens * features);
  for (let t = 0; t < tokens; t++) {
    const row = t * features;
    let carried = 0;
    for (let j = 0; j < features; j++) {
      carried = 0.9 * carried + z[row + j];
      x[row + j] = carried * (j % 37 === 5 ? 12 : 1 / (1 + (j % 11)));
    }
  }
  return x;
}

/** row[j] += Σ_l a[at + l · step] · b[l, j] for four l at a time, j from `from` on; rows of b have n values. */
function addProducts(
  row: Float64Array,
  a: Float32Array,
  at: number,
  step: number,
  count: number,
  b: Float32Array,
  n: number,
  from: number,
): void {
  for (let l = 0; l < count; l += 4) {
    const v = [0, 1, 2, 3].map((i) => (l + i < count ? a[at + (l + i) * step] : 0));
    const [v0, v1, v2, v3] = v;
    const [b0, b1, b2, b3] = [0, 1, 2, 3].map((i) => Math.min(l + i, count - 1) * n);
    for (let j = from; j < n; j++) row[j] += v0 * b[b0 + j] + v1 * b[b1 + j] + v2 * b[b2 + j] + v3 * b[b3 + j];
  }
}

/** Σ aᵀb [features, features] over tokens; with `whole` false the upper triangle only, zeros below. */
export function moments(a: Float32Array, b: Float32Array, features: number, whole = false): Float32Array {
  const out = new Float32Array(features * features);
  const row = new Float64Array(features);
  for (let i = 0; i < features; i++) {
    row.fill(0);
    addProducts(row, a, i, features, a.length / features, b, features, whole ? 0 : i);
    out.set(row, i * features);
  }
  return out;
}

/** Σ over rows and tokens of (d x)², the sums in float64: d [rows, features], x [tokens, features]. */
export function outputError(d: Float32Array, x: Float32Array, features: number): number {
  let total = 0;
  for (let r = 0; r < d.length; r += features) {
    for (let t = 0; t < x.length; t += features) {
      let y = 0;
      for (let j = 0; j < features; j++) y += d[r + j] * x[t + j];
      total += y * y;
    }
  }
  return total;
}

/** Student-t values with `freedom` degrees of freedom. */
export function studentMatrix(rows: number, cols: number, freedom: number, seed: number): Float32Array {
  const out = gaussianMatrix(rows, cols, seed);
  const square = new Float64Array(out.length);
  for (let k = 1; k <= freedom; k++) {
    const z = gaussianMatrix(rows, cols, seed + 7919 * k);
    for (let i = 0; i < z.length; i++) square[i] += z[i] * z[i];
  }
  return out.map((v, i) => v / Math.sqrt(square[i] / freedom));
}

/** a [m, k] · b [k, n] in float64 sums. */
export function product(a: Float32Array, b: Float32Array, k: number, n: number): Float32Array {
  const out = new Float32Array((a.length / k) * n);
  const row = new Float64Array(n);
  for (let i = 0; i < a.length / k; i++) {
    row.fill(0);
    addProducts(row, a, i * k, 1, k, b, n, 0);
    out.set(row, i * n);
  }
  return out;
}

/** Random orthogonal rows [n, n]: Gram-Schmidt, twice, on Gaussian vectors. */
function orthogonalMatrix(n: number, seed: number): Float64Array {
  const q = Float64Array.from(gaussianMatrix(n, n, seed));
  for (let i = 0; i < n; i++) {
    const row = q.subarray(i * n, (i + 1) * n);
    for (let pass = 0; pass < 2; pass++) {
      for (let k = 0; k < i; k++) {
        const other = q.subarray(k * n, (k + 1) * n);
        let dot = 0;
        for (let j = 0; j < n; j++) dot += row[j] * other[j];
        for (let j = 0; j < n; j++) row[j] -= dot * other[j];
      }
    }
    const norm = Math.hypot(...row);
    for (let j = 0; j < n; j++) row[j] /= norm;
  }
  return q;
}

/**
 * Recipe R1 of the acceptance tests of the method card: inputs with a decaying spectrum in a random basis and six loud
 * channels. C = U diag(3 exp(−k/60) + 0.05) Uᵀ, x = z C, six channels × 12. The loud channels are those of the card's
 * draw for 512 features (NumPy's generator, seed 0): results in natural and group order depend on where they are.
 */
export function recipeInputs(tokens: number, n: number, seed: number): Float32Array {
  const u = orthogonalMatrix(n, 1000 + seed);
  const c = new Float32Array(n * n);
  for (let k = 0; k < n; k++) {
    const d = 3 * Math.exp(-k / 60) + 0.05;
    for (let i = 0; i < n; i++) {
      const v = d * u[k * n + i];
      for (let j = 0; j < n; j++) c[i * n + j] += v * u[k * n + j];
    }
  }
  const loud = new Set([205, 216, 396, 430, 445, 460]);
  return product(gaussianMatrix(tokens, n, 2000 + seed), c, n, n).map((v, i) => (loud.has(i % n) ? 12 * v : v));
}
