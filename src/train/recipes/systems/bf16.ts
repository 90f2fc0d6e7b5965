// Mixed precision as it is usual: operands of all products in bfloat16, sums in f32.

import { alike, type LinearRecipe } from '../linear-recipe.ts';

const operand = { format: 'bf16' } as const;

export const bf16: LinearRecipe = {
  doc: 'operands in bfloat16, sums in f32',
  forward: alike(operand),
  gradInput: alike(operand),
  gradWeight: alike(operand),
};
