// How a linear layer is trained in low precision, as a value: its three products and, for each, how both operands are
// rounded.
//
//   forward      y  = x · wᵀ       x [T, k], w [n, k], reduced along k
//   gradInput    gx = e · w        e = ∂loss/∂y [T, n], wᵀ [k, n], reduced along n
//   gradWeight   gw = eᵀ · x       eᵀ [n, T], xᵀ [k, T], reduced along T
//
// Blocks, rows and rotations of an operand run along the dimension that its product reduces. A product's rotation turns
// both operands and cancels. The forward rotation stays in what is saved for the backward pass: gradients come out turned
// and are turned back once, after the mask (Castro et al. 2025, arXiv:2505.14669, algorithm 1).

import type { Value } from '../../graph/graph.ts';
import type { DgeAttributes } from '../../graph/ops/dge.ts';

/** A block Hadamard transform, orthonormal, in Sylvester order. */
export interface Rotation {
  /** Length of a block, a power of two; `whole`: the largest that divides the dimension. */
  readonly block: number | 'whole';
  /** none; fixed: drawn once from the seed; random: drawn anew for each layer and batch. */
  readonly signs: 'none' | 'fixed' | 'random';
  /** Where signs act: on the input of the transform (first, as they must to spread anything), or on its result. */
  readonly order?: 'first' | 'last';
}

export interface Operand {
  /** Name of a format, its scale rule and rounding included (`mxfp4-fourthirds-sr`); f32: not rounded. */
  readonly format: string;
  /** Of x and w in the forward product: gradients pass only where |value| < bound · scale. Absent: all pass. */
  readonly bound?: number;
  /** Of w and x in the backward products: what is rounded, the tensor itself or what the forward product saw of it. */
  readonly from?: 'exact' | 'forward';
  /** Factor on the rounded values; 1 when absent. */
  readonly correction?: number;
  /**
   * Of x in the forward product, α: values beyond the 1 − α and α quantiles of their row are clamped before rounding. What
   * is cut off multiplies w, unrounded, as sparse rows, and is part of x in the weight gradient too. Gradients pass.
   */
  readonly outliers?: number;
  /** Of w in the forward product: gradients are multiplied by the slope of a smooth staircase (graph/ops/dge.ts). */
  readonly slope?: DgeAttributes;
  /** A rotation along the operand's other dimension, which is undone in the product. */
  readonly outer?: Rotation;
}

export interface ProductRecipe {
  readonly a: Operand;
  readonly b: Operand;
  /** Along the reduced dimension, of both operands. */
  readonly rotation?: Rotation;
}

export interface LinearRecipe {
  /** One line: what it is and where it comes from. */
  readonly doc: string;
  readonly forward: ProductRecipe;
  readonly gradInput: ProductRecipe;
  readonly gradWeight: ProductRecipe;
  /** Changes the weight's gradient last. */
  readonly onWeightGradient?: (gradient: Value) => Value;
}

const exact: Operand = { format: 'f32', from: 'exact' };

/** Three products in f32. */
export const plain: LinearRecipe = {
  doc: 'f32 products',
  forward: { a: exact, b: exact },
  gradInput: { a: exact, b: exact },
  gradWeight: { a: exact, b: exact },
};

/** A backward product in f32 over what the forward product saw. */
export const unrounded: ProductRecipe = { a: exact, b: { format: 'f32', from: 'forward' } };

/** All operands of a product alike. */
export const alike = (operand: Operand, rotation?: Rotation): ProductRecipe => ({ a: operand, b: operand, rotation });
