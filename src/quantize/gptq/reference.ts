// GPTQ in float64, written to be read: what the kernels of backends/wasm/solver.ts are compared with.
//
// The factor is computed as published (Cholesky of H, inverse, upper Cholesky of the inverse; the kernels need one
// Cholesky and one triangular inverse). Columns are rounded as in arXiv 2210.17323, algorithm 1, with GPTAQ's terms
// (arXiv 2504.02692) in blocks as its program has them. Everything is in processing order.

import type { Grid } from '../../formats/grid.ts';

/** Lower Cholesky factor of a symmetric matrix [n, n]; the index of the first pivot that is not positive instead. */
export function cholesky(a: Float64Array, n: number): Float64Array | number {
  const l = new Float64Array(n * n);
  for (let j = 0; j < n; j++) {
    for (let i = j; i < n; i++) {
      let sum = a[i * n + j];
      for (let k = 0; k < j; k++) sum -= l[i * n + k] * l[j * n + k];
      if (i > j) l[i * n + j] = sum / l[j * n + j];
      else if (!(sum > 0)) return j;
      else l[j * n + j] = Math.sqrt(sum);
    }
  }
  return l;
}

/** (L Lᵀ)⁻¹ for a lower triangle L, column by column: forward and backward substitution. */
function choleskyInverse(l: Float64Array, n: number): Float64Array {
  const inverse = new Float64Array(n * n);
  const x = new Float64Array(n);
  for (let c = 0; c < n; c++) {
    x.fill(0);
    x[c] = 1;
    for (let i = c; i < n; i++) {
      for (let k = c; k < i; k++) x[i] -= l[i * n + k] * x[k];
      x[i] /= l[i * n + i];
    }
    for (let i = n - 1; i >= 0; i--) {
      for (let k = i + 1; k < n; k++) x[i] -= l[k * n + i] * x[k];
      x[i] /= l[i * n + i];
    }
    for (let i = 0; i < n; i++) inverse[i * n + c] = x[i];
  }
  return inverse;
}

/** The upper triangle of gram [n, n], permuted, divided by the mean of its non-zero diagonal, damped; symmetric. */
export function dampedHessian(gram: Float32Array, n: number, damping: number, order?: Uint32Array): Float64Array {
  const diagonal = Array.from({ length: n }, (_, i) => gram[i * n + i]).filter((d) => d !== 0);
  const mean = diagonal.reduce((a, b) => a + b, 0) / diagonal.length;
  const h = new Float64Array(n * n);
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < n; j++) {
      const a = order ? order[i] : i;
      const b = order ? order[j] : j;
      h[i * n + j] = gram[Math.min(a, b) * n + Math.max(a, b)] / mean;
    }
    h[i * n + i] = (h[i * n + i] === 0 ? 1 : h[i * n + i]) + damping;
  }
  return h;
}

/** Upper U with (H/mean + damping·I)⁻¹ = Uᵀ U, or the place of a pivot that is not positive. */
export function factorReference(gram: Float32Array, n: number, damping: number, order?: Uint32Array) {
  const l = cholesky(dampedHessian(gram, n, damping, order), n);
  if (typeof l === 'number') return l;
  const lower = cholesky(choleskyInverse(l, n), n) as Float64Array;
  const upper = new Float64Array(n * n);
  for (let i = 0; i < n; i++) for (let j = i; j < n; j++) upper[i * n + j] = lower[j * n + i];
  return upper;
}

/** GPTAQ's P = strength · triu(D Uᵀ, 1) U with D the permuted cross statistics over the mean diagonal of gram. */
export function correctionReference(
  cross: Float32Array,
  gram: Float32Array,
  upper: Float64Array,
  n: number,
  strength: number,
  order?: Uint32Array,
): Float64Array {
  const diagonal = Array.from({ length: n }, (_, i) => gram[i * n + i]).filter((d) => d !== 0);
  const mean = diagonal.reduce((a, b) => a + b, 0) / diagonal.length;
  const at = (i: number) => (order ? order[i] : i);
  const t = new Float64Array(n * n);
  for (let i = 0; i < n; i++) {
    for (let j = i + 1; j < n; j++) {
      let sum = 0;
      for (let k = j; k < n; k++) sum += cross[at(i) * n + at(k)] * upper[j * n + k];
      t[i * n + j] = (strength * sum) / mean;
    }
  }
  const p = new Float64Array(n * n);
  for (let i = 0; i < n; i++)
    for (let j = i + 1; j < n; j++) for (let k = i + 1; k <= j; k++) p[i * n + j] += t[i * n + k] * upper[k * n + j];
  return p;
}

/** Code of the value nearest to t; on the middle of two the even code. */
export function nearestCode(values: Float32Array, choice: Uint8Array, t: number): number {
  let low = 0;
  for (let i = 1; i < choice.length; i++) {
    const middle = (values[choice[i - 1]] + values[choice[i]]) / 2;
    if (t > middle || (t === middle && (choice[i] & 1) === 0)) low = i;
  }
  return choice[low];
}

export interface ReferenceSolve {
  /** [rows, cols], one a byte. */
  codes: Uint8Array;
  /** How far every rounded number t = (w − offset)/step lay from its code's value, less half the gap to the next value on
   * that side: positive only where another code was nearer. In steps. */
  excess: Float64Array;
  /** Σ e², e = (w − q)/U[c, c]: without correction the error under the damped Hessian. */
  loss: number;
}

/**
 * Rounds all columns of weight [rows, cols].
 *
 * @param runOf the run of each column: which of the grid's steps it has
 * @param replay codes to take instead of the nearest ones: `excess` then says how near they are
 */
export function solveReference(
  weight: Float32Array,
  grid: Grid,
  runOf: (column: number) => number,
  upper: Float64Array,
  correction: Float64Array | undefined,
  blockSize: number,
  replay?: Uint8Array,
): ReferenceSolve {
  const { rows, cols, values, order: choice, steps, offsets } = grid;
  const runs = steps.length / rows;
  const codes = new Uint8Array(rows * cols);
  const excess = new Float64Array(rows * cols);
  const sorted = [...choice].map((c) => values[c]);
  let loss = 0;
  for (let r = 0; r < rows; r++) {
    const w = Float64Array.from(weight.subarray(r * cols, (r + 1) * cols));
    for (let start = 0; start < cols; start += blockSize) {
      const end = Math.min(start + blockSize, cols);
      const errors = new Float64Array(cols);
      for (let i = start; i < end; i++) {
        const step = steps[r * runs + runOf(i)];
        const offset = offsets?.[r * runs + runOf(i)] ?? 0;
        const t = step === 0 ? 0 : (w[i] - offset) / step;
        const code = replay ? replay[r * cols + i] : nearestCode(values, choice, t);
        const q = values[code] * step + offset;
        codes[r * cols + i] = code;
        excess[r * cols + i] = excessOf(sorted, values[code], t);
        errors[i] = (w[i] - q) / upper[i * cols + i];
        loss += errors[i] ** 2;
        for (let j = i + 1; j < end; j++) {
          w[j] -= errors[i] * upper[i * cols + j];
          if (correction) w[j] += w[i] * correction[i * cols + j];
        }
        w[i] = q;
      }
      for (let j = end; j < cols; j++) {
        for (let i = start; i < end; i++) {
          w[j] -= errors[i] * upper[i * cols + j];
          if (correction) w[j] += w[i] * correction[i * cols + j];
        }
      }
    }
  }
  return { codes, excess, loss };
}

function excessOf(sorted: readonly number[], value: number, t: number): number {
  const at = sorted.indexOf(value);
  const next = t > value ? sorted[at + 1] : sorted[at - 1];
  return next === undefined ? Number.NEGATIVE_INFINITY : Math.abs(t - value) - Math.abs(next - value) / 2;
}
