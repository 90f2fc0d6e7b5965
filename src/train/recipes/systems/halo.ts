// HALO: eight-bit products with Hadamard transforms on the sides that have outliers.
//
// Source: Ashkboos et al. 2025, arXiv:2501.02625, the levels as their code selects them: 0 no rotation; 1 x and w turned
// along the features, and used turned in the backward products too; 2 also e turned along the tokens for the input
// gradient. One scale a tensor, nearest. Transforms have the largest power of two that divides the dimension, where the
// authors turn the whole width.

import type { LinearRecipe, Operand, Rotation } from '../linear-recipe.ts';

const whole: Rotation = { block: 'whole', signs: 'none' };
/** What the forward product saw, turned as it was, not rounded again. */
const asForward: Operand = { format: 'f32', from: 'forward' };

const level = (format: string, rotation: Rotation | undefined, outer: Rotation | undefined): LinearRecipe => ({
  doc: `HALO-${outer ? 2 : rotation ? 1 : 0} in ${format.startsWith('int8') ? 'INT8' : 'FP8'}, one scale a tensor`,
  forward: { a: { format }, b: { format }, rotation },
  gradInput: { a: { format, outer }, b: asForward },
  gradWeight: { a: { format }, b: asForward },
});

const [fp8, int8] = ['fp8-e4m3-tensor', 'int8-tensor'];
export const halo0 = level(fp8, undefined, undefined);
export const halo1 = level(fp8, whole, undefined);
export const halo2 = level(int8, whole, whole);
