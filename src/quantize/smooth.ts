// SmoothQuant: moves the outliers of an input into the weights, until both are as hard to quantize.
//
//   s_j = max|x_j|^α / max_i|W_ij|^(1−α),    x_j ← x_j / s_j,   W_ij ← W_ij · s_j
//
// Both maxima are at least 1e-5; that of the weights is over all layers that share the input. α = 0.5 splits the range
// evenly; 0.8 … 0.9 suit the Llama family, whose outliers are larger.
// Source: SmoothQuant (arXiv:2211.10438, equation 4) and its smooth.py. It does not do: choosing α, or folding
// (fold.ts); o_proj and down_proj are left alone in the original, which takes the subsets behind norms only.

import type { InputStatistics } from './input-statistics.ts';

/** A linear layer: values [rows, K], row-major. */
export interface ScaledWeight {
  readonly name: string;
  readonly values: Float32Array;
  readonly rows: number;
}

const smallest = 1e-5;

/**
 * The divisors [K] of a shared input, positive and finite.
 *
 * @example smoothScales(statistics, [q, k, v], 0.8)
 */
export function smoothScales(
  stats: Pick<InputStatistics, 'absMax'>,
  weights: readonly ScaledWeight[],
  alpha: number,
): Float32Array {
  const cols = stats.absMax.length;
  const largest = columnMaxima(weights, cols);
  return Float32Array.from(
    stats.absMax,
    (x, j) => Math.max(x, smallest) ** alpha / Math.max(largest[j], smallest) ** (1 - alpha),
  );
}

/** max |W_ij| over the rows of all weights, [K]. */
function columnMaxima(weights: readonly ScaledWeight[], cols: number): Float32Array {
  const largest = new Float32Array(cols);
  for (const { name, values, rows } of weights) {
    if (values.length !== rows * cols)
      throw new Error(`smoothScales: ${name} has ${values.length} values, not ${rows}·${cols}`);
    for (let i = 0; i < values.length; i += cols)
      for (let j = 0; j < cols; j++) largest[j] = Math.max(largest[j], Math.abs(values[i + j]));
  }
  return largest;
}
