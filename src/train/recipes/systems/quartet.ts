// Quartet: all three products of every linear layer in MXFP4, and its parts alone.
//
// Source: Castro et al. 2025, arXiv:2505.14669. Forward: fixed Hadamard transform of 32, the E8M0 scale below the
// Gaussian-optimal one, nearest, ties to the smaller magnitude; gradients of clipped values are masked. Backward: random
// signs, then Hadamard of 32; scales put the maximum into [3, 6), so that nothing is clipped and stochastic rounding is
// without bias; w and x are rounded again from what the forward product saw.
//
// Two choices of the authors' code are options, since they change results: scales rounded down or to nearest, and signs
// applied after the transform, where they do nothing to the rounding.

import {
  alike,
  type LinearRecipe,
  type Operand,
  type ProductRecipe,
  type Rotation,
  unrounded,
} from '../linear-recipe.ts';
import { bf16 } from './bf16.ts';

export interface QuartetOptions {
  /** Rounding of the forward scale to a power of two; none: an f32 scale. */
  readonly scale?: 'floor' | 'nearest' | 'none';
  /** Signs before the transform (as they must be), or after it as in the code of the paper's runs. */
  readonly signs?: 'first' | 'last';
}

const fixed: Rotation = { block: 32, signs: 'none' };
const random = (order: 'first' | 'last' = 'first'): Rotation => ({ block: 32, signs: 'random', order });
const questFormats = { floor: 'mxfp4-quest', nearest: 'mxfp4-questnearest', none: 'fp4-e2m1-g32-quest' } as const;

/** QuEST's forward product: clipped, so gradients are masked. */
const questForward = ({ scale = 'floor' }: QuartetOptions = {}): ProductRecipe =>
  alike({ format: `${questFormats[scale]}-tozero`, bound: 6 }, fixed);

/** A product whose scales leave room, so that nothing is clipped. */
const roomy = (rounding: 'tozero' | 'sr', rotation: Rotation, more: Partial<Operand> = {}): ProductRecipe =>
  alike({ format: `mxfp4-fourthirds-${rounding}`, ...more }, rotation);

const { gradInput, gradWeight } = bf16;

/** The whole system under its options. */
export function quartetWith(options: QuartetOptions): LinearRecipe {
  const backward = roomy('sr', random(options.signs));
  const doc = 'Quartet: MXFP4 in all three products';
  return { doc, forward: questForward(options), gradInput: backward, gradWeight: backward };
}

export const quartet = quartetWith({});
export const quartetNearest: LinearRecipe = { ...quartetWith({ scale: 'nearest' }), doc: 'Quartet, scales to nearest' };
export const quartetSignsLast: LinearRecipe = {
  ...quartetWith({ signs: 'last' }),
  doc: "Quartet with the order of signs of the paper's runs",
};

/** Forward alone, backward in bfloat16. */
export const forwardQuest: LinearRecipe = {
  doc: 'QuEST forward in MXFP4, backward in bfloat16',
  forward: questForward(),
  gradInput,
  gradWeight,
};
export const forwardRtn: LinearRecipe = {
  doc: 'MXFP4 forward to nearest by absmax, backward in bfloat16',
  forward: roomy('tozero', fixed),
  gradInput,
  gradWeight,
};
export const forwardSr: LinearRecipe = {
  doc: 'MXFP4 forward by stochastic rounding, backward in bfloat16',
  forward: roomy('sr', fixed),
  gradInput,
  gradWeight,
};

const backwardOnly = (doc: string, product: ProductRecipe): LinearRecipe => ({
  doc: `bfloat16 forward, backward in MXFP4 ${doc}`,
  forward: bf16.forward,
  gradInput: product,
  gradWeight: product,
});

export const backwardSr = backwardOnly('by stochastic rounding', roomy('sr', random()));
export const backwardRtn = backwardOnly('to nearest by absmax', roomy('tozero', random()));
/** Nearest, times the factor that makes ⟨q, x⟩ = ⟨x, x⟩ for Gaussian x. */
export const backwardPma = backwardOnly(
  'to nearest, magnitude-aligned',
  roomy('tozero', random(), { correction: 1.009276 }),
);
export const backwardQuest = backwardOnly('by a clipping quantizer', alike({ format: 'mxfp4-quest-tozero' }, random()));

/** The forward half with the exact gradients of what it computes. */
export const questExact: LinearRecipe = {
  doc: 'QuEST forward in MXFP4, backward in f32',
  forward: questForward(),
  gradInput: unrounded,
  gradWeight: unrounded,
};
