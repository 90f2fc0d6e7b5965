// Whether a recipe's blocks fit a layer: groups and rotations run along the dimension that a product reduces.

import { userError } from '../../errors.ts';
import { parseFormat } from '../../formats/registry.ts';
import type { LinearRecipe, Operand, ProductRecipe, Rotation } from './linear-recipe.ts';

/** Longest block that must divide the reduced dimension: all blocks are powers of two. */
function blockAlong({ a, b, rotation }: ProductRecipe): number {
  const group = ({ format, bound }: Operand) => {
    const spec = parseFormat(format);
    const size = spec.kind === 'quant' && spec.granularity.kind === 'group' ? spec.granularity.size : 1;
    // bits of what is not clipped come in words
    return bound === undefined ? size : Math.max(size, 32);
  };
  return Math.max(group(a), group(b), lengthOf(rotation));
}

const lengthOf = (rotation: Rotation | undefined) => (typeof rotation?.block === 'number' ? rotation.block : 1);

/** Sizes of a layer: x [rows, inner], w [outer, inner]; rows undefined where they are sorted into blocks. */
export interface LayerSizes {
  readonly inner: number;
  readonly outer: number;
  readonly rows: number | undefined;
}

/** Throws a user error when a block of the recipe `name` does not divide the dimension of `layer` that it lies along. */
export function checkSizes(name: string, recipe: LinearRecipe, layer: string, sizes: LayerSizes): void {
  const { forward, gradInput, gradWeight } = recipe;
  const rows = Math.max(blockAlong(gradWeight), lengthOf(gradInput.a.outer), lengthOf(forward.a.outer));
  const demands = [
    ['inputs', sizes.inner, blockAlong(forward)],
    ['outputs', sizes.outer, blockAlong(gradInput)],
    ['tokens a batch', sizes.rows, rows],
  ] as const;
  for (const [what, size, block] of demands) {
    if (size === undefined || size % block === 0) continue;
    throw userError({
      code: 'recipe-sizes',
      op: 'train',
      problem: `the blocks of recipe ${name} do not divide the ${what} of ${layer}`,
      got: size,
      expected: `a multiple of ${block}`,
      fix: 'change the sizes of the model or of the batch, or give the layer another recipe in recipe.layers',
    });
  }
}
