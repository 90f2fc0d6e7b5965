// A reproducible Gaussian matrix: the test signal of format comparisons. Box-Muller over the counter-based generator.

import { uniformSource } from '../formats/random.ts';

/** Standard normal values [rows, cols] in float32. */
export function gaussianMatrix(rows: number, cols: number, seed: number): Float32Array {
  const uniform = uniformSource(seed, 0);
  const out = new Float32Array(rows * cols);
  for (let i = 0; i < out.length; i += 2) {
    // 1 − u is in (0, 1], so the logarithm is finite
    const radius = Math.sqrt(-2 * Math.log(1 - uniform.at(i)));
    const angle = 2 * Math.PI * uniform.at(i + 1);
    out[i] = radius * Math.cos(angle);
    if (i + 1 < out.length) out[i + 1] = radius * Math.sin(angle);
  }
  return out;
}
