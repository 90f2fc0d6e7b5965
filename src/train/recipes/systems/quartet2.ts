// Quartet II: NVFP4 in all three products, gradients by MS-EDEN.
//
// Source: Panferov et al. 2026, arXiv:2601.22813. Forward: blocks of 16 to nearest, the maximum mapped to 6 or to 4,
// whichever errs less; no rotation, no mask. Backward: random signs and a Hadamard transform of 128 on both operands of
// both products, then MS-EDEN (formats/ms-eden.ts: one correction for each block of 16); w and x are rounded again from what
// the forward product saw. Dimensions n and T must be multiples of 128.

import { alike, type LinearRecipe, type Rotation } from '../linear-recipe.ts';
import { bf16 } from './bf16.ts';

const random = (block: number): Rotation => ({ block, signs: 'random' });

const eden = (block: number) => alike({ format: 'nvfp4-mseden' }, random(block));

export const quartet2: LinearRecipe = {
  doc: 'Quartet II: NVFP4, four-over-six forward, MS-EDEN backward',
  forward: alike({ format: 'nvfp4-46' }),
  gradInput: eden(128),
  gradWeight: eden(128),
};

/** For models whose dimensions are no multiples of 128. */
export const quartet2Short: LinearRecipe = {
  ...quartet2,
  doc: 'Quartet II with transforms of 32',
  gradInput: eden(32),
  gradWeight: eden(32),
};

export const backwardEden: LinearRecipe = {
  doc: 'bfloat16 forward, backward in NVFP4 by MS-EDEN',
  forward: bf16.forward,
  gradInput: eden(128),
  gradWeight: eden(128),
};
