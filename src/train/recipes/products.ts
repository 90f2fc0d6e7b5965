// The products of all linear layers of a model under a training recipe, and the random inputs that they ask for.

import { threefry2x32 } from '../../formats/random.ts';
import type { Value } from '../../graph/graph.ts';
import { slice } from '../../graph/ops/layout.ts';
import type { GraphBuilder } from '../../graph/trace.ts';
import { f32, i32 } from '../../graph/value-type.ts';
import { tensorF32 } from '../../tensor/tensor.ts';
import type { Products } from '../graphs.ts';
import type { LayerProducts } from '../trainer.ts';
import { roundsGradients, withExactBackward } from './exact-backward.ts';
import { expertProduct, noSortedInputs } from './expert-product.ts';
import type { LayerKey } from './layer-key.ts';
import type { LinearRecipe, Rotation } from './linear-recipe.ts';
import { streamsPerLayer } from './operand.ts';
import { lowPrecisionProduct, type Rounded } from './product.ts';
import { blockOf } from './rotation.ts';

/** Operands' streams begin here, apart from those of first weights, which count tensors from 0. */
const firstStream = 0x10000000;
const signStream = 0x51000000;

export interface RecipeProducts extends LayerProducts {
  /** The same with backward products that round nothing (exact-backward.ts), over the same inputs. */
  readonly exactBackward: Products;
  /** Layers whose recipe rounds operands of the backward products. */
  readonly noisy: readonly string[];
}

/**
 * Products by the recipe of each layer; layers without one are plain. `layers` are the names of all linear layers in the
 * order of the model, which number their random streams; `longest` is the longest block of random signs.
 *
 * @example recipeProducts(['model.layers.0.mlp.up_proj', …], () => quartet, { seed: 0, longest: 32 })
 */
export function recipeProducts(
  layers: readonly string[],
  recipeOf: (layer: string) => LinearRecipe | undefined,
  { seed, longest }: { seed: number; longest: number },
): RecipeProducts {
  const numbers = new Map(layers.map((layer, i) => [layer, i]));
  const productsBy =
    (recipeAt: typeof recipeOf): Products =>
    (g) => {
      const rounded: Rounded = new Map();
      const sorted = noSortedInputs();
      const inputs = declared(g, layers.length, longest);
      return (layer) => {
        const recipe = recipeAt(layer);
        const number = numbers.get(layer);
        if (!recipe || number === undefined) return undefined;
        const key = keyOf(g, seed, { number, longest }, inputs);
        return (x, w, experts) =>
          experts
            ? expertProduct(g, { x, weight: w, experts }, recipe, key, { sorted, rounded })
            : lowPrecisionProduct(x, w, recipe, key, rounded);
      };
    };
  const inputs = (batch: number) =>
    new Map<string, Float32Array | Int32Array>([
      ['roundingStep', Int32Array.of(batch)],
      ['signs', drawSigns(layers.length * longest, seed, batch)],
    ]);
  const exact = (layer: string) => {
    const recipe = recipeOf(layer);
    return recipe && withExactBackward(recipe);
  };
  const noisy = layers.filter((layer) => {
    const recipe = recipeOf(layer);
    return recipe !== undefined && roundsGradients(recipe);
  });
  return { products: productsBy(recipeOf), exactBackward: productsBy(exact), noisy, inputs };
}

/** Inputs that are declared when the first layer asks. */
function declared(g: GraphBuilder, layers: number, longest: number) {
  const known = new Map<string, Value>();
  const once = (name: string, make: () => Value) => {
    const value = known.get(name) ?? make();
    known.set(name, value);
    return value;
  };
  return {
    step: () => once('roundingStep', () => g.input('roundingStep', i32([1]))),
    signs: () => once('signs', () => g.input('signs', f32([layers * longest]))),
  };
}

/** The key of layer `number`; its signs are the first of the `longest` that belong to it. */
function keyOf(
  g: GraphBuilder,
  seed: number,
  { number, longest }: { number: number; longest: number },
  inputs: { step(): Value; signs(): Value },
): LayerKey {
  const known = new Map<string, Value>();
  return {
    seed,
    stream: firstStream + number * streamsPerLayer,
    step: inputs.step,
    signs: (kind, block) => {
      const name = `${kind} ${block}`;
      const make = () =>
        kind === 'random'
          ? slice(inputs.signs(), 0, number * longest, block)
          : g.constant(tensorF32([block], drawSigns(block, seed, -1)));
      const value = known.get(name) ?? make();
      known.set(name, value);
      return value;
    },
  };
}

/** Independent signs ±1, from the highest bit of each random word. */
export function drawSigns(count: number, seed: number, step: number): Float32Array {
  const words = new Uint32Array(2);
  return Float32Array.from({ length: count }, (_, i) => {
    if (i % 2 === 0) threefry2x32(seed, signStream, i / 2, step, words);
    return words[i % 2] >>> 31 === 0 ? 1 : -1;
  });
}

/** The longest block of random signs that the recipes ask for, on dimensions of these sizes at most. */
export function longestBlock(recipes: readonly LinearRecipe[], sizes: readonly number[]): number {
  const rotations = recipes.flatMap(({ forward, gradInput, gradWeight }) =>
    [forward, gradInput, gradWeight].flatMap(({ a, b, rotation }) => [rotation, a.outer, b.outer]),
  );
  const random = rotations.filter((r): r is Rotation => r?.signs === 'random');
  return Math.max(1, ...random.flatMap((r) => sizes.map((size) => blockOf(r, size))));
}
