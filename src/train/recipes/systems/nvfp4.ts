// NVFP4 training: FP4 All the Way, and NVIDIA's recipe.
//
// FP4 All the Way (Chmiel et al. 2025, arXiv:2505.19115): each operand rounded along its own reduction from the tensor
// itself; stochastic rounding of gradients and of the activations of the weight gradient, nearest elsewhere. Block scales
// are quantized as they decode; the authors quantize their inverses. It ends with bfloat16 backward products (a phase).
//
// NVIDIA (2025, arXiv:2509.25149): weights in 16×16 blocks, so that forward and input gradient see the same numbers; a
// Hadamard transform of 16 with one fixed draw of signs on both operands of the weight gradient; stochastic rounding of
// gradients. The last blocks of the model stay in bfloat16 (an exception by layers, left to the config). Block scales are
// rounded to nearest without extra room, as published, which clips the maximum by up to 1/17 and so leaves a small bias.

import type { LinearRecipe, Operand, Rotation } from '../linear-recipe.ts';
import { bf16 } from './bf16.ts';

const again = (format: string): Operand => ({ format, from: 'exact' });
/** What the forward product saw, not rounded again. */
const asForward: Operand = { format: 'f32', from: 'forward' };

export const fp4AllTheWay: LinearRecipe = {
  doc: 'FP4 All the Way: NVFP4, nearest forward, stochastic gradients',
  forward: { a: { format: 'nvfp4' }, b: { format: 'nvfp4' } },
  gradInput: { a: again('nvfp4-sr'), b: again('nvfp4') },
  gradWeight: { a: again('nvfp4-sr'), b: again('nvfp4-sr') },
};

/** The fine-tuning phase of FP4 All the Way: the model stays one of NVFP4. */
export const fp4FineTuning: LinearRecipe = {
  doc: 'NVFP4 forward, backward in bfloat16',
  forward: fp4AllTheWay.forward,
  gradInput: bf16.gradInput,
  gradWeight: bf16.gradWeight,
};

const turned: Rotation = { block: 16, signs: 'fixed' };

export const nvidia: LinearRecipe = {
  doc: "NVIDIA's NVFP4 recipe: 16×16 weights, rotated weight gradient, stochastic gradients",
  forward: { a: { format: 'nvfp4' }, b: { format: 'nvfp4-2d' } },
  gradInput: { a: { format: 'nvfp4-sr' }, b: asForward },
  gradWeight: { a: { format: 'nvfp4-sr' }, b: again('nvfp4'), rotation: turned },
};
