// FP4 forward with outliers kept apart and a smooth slope of the weights' rounding, backward in FP8.
//
// Source: Wang et al. 2025, arXiv:2501.17116. Activations: the largest 1 % of each row to either side is clamped, the rest
// rounded to E2M1 with one scale a row, and what was cut off is multiplied as sparse rows in f32 (the paper: FP8). Weights:
// E2M1, one scale an output channel; gradients times the differentiable estimator, k 5, at most 3. Backward: E5M2 of the
// gradient, E4M3 of what the forward product saw. Scales are amax / 6, as in the paper; its code rounds them to powers of
// two.

import type { LinearRecipe, Operand } from '../linear-recipe.ts';

const gradient: Operand = { format: 'fp8-e5m2-tensor' };
const seen: Operand = { format: 'fp8-e4m3-tensor', from: 'forward' };

export const dgeOcc: LinearRecipe = {
  doc: 'FP4 forward with sparse outliers and differentiable slopes, FP8 backward',
  forward: {
    a: { format: 'fp4-e2m1-token', outliers: 0.99 },
    b: { format: 'fp4-e2m1-channel', slope: { k: 5, cap: 3 } },
  },
  gradInput: { a: gradient, b: seen },
  gradWeight: { a: gradient, b: seen },
};
