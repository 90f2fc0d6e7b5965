// A recipe without the rounding of its backward operands: what gradients would be if their products were exact.
//
// The forward product stays, its random numbers too, and so does what w and x are taken from (the tensors, or what the
// forward product saw of them), so that two passes over a batch differ by the noise of the backward rounding alone.
// Rotations cancel in exact products and are left out, and so are the corrections of rounded ones.

import type { LinearRecipe, Operand, ProductRecipe } from './linear-recipe.ts';

const exactOperand = ({ from }: Operand): Operand => ({ format: 'f32', from });
const exactProduct = ({ a, b }: ProductRecipe): ProductRecipe => ({ a: exactOperand(a), b: exactOperand(b) });

/** Whether a recipe rounds operands of its backward products. */
export const roundsGradients = ({ gradInput, gradWeight }: LinearRecipe): boolean =>
  [gradInput, gradWeight].some(({ a, b }) => a.format !== 'f32' || b.format !== 'f32');

export const withExactBackward = (recipe: LinearRecipe): LinearRecipe => ({
  ...recipe,
  gradInput: exactProduct(recipe.gradInput),
  gradWeight: exactProduct(recipe.gradWeight),
});
