// Does rounding the weight gradient leave a bias? Rows of x and of e share a mean vector, as activations do:
//
//   x = c + ½ z,  e = c′ + ½ z′  [T, k], [T, n];  gW = eᵀ x
//
// Without bias the error of the mean of B passes falls as 1/B; a bias stays. Signs that act after the Hadamard transform
// change nothing of what nearest rounding sees, so all passes err alike.

import type { Backend } from '../../src/backends/backend.ts';
import { gradients } from '../../src/graph/differentiate.ts';
import { trace } from '../../src/graph/trace.ts';
import { f32 } from '../../src/graph/value-type.ts';
import { gaussianMatrix } from '../../src/quantize/gaussian.ts';
import { type LinearRecipe, type ProductRecipe, plain } from '../../src/train/recipes/linear-recipe.ts';
import { recipeProducts } from '../../src/train/recipes/products.ts';
import { backwardPma, backwardQuest, backwardRtn, backwardSr } from '../../src/train/recipes/systems/quartet.ts';

const [tokens, size] = [1024, 64];

const signsLast = (product: ProductRecipe): ProductRecipe => ({
  ...product,
  rotation: product.rotation && { ...product.rotation, order: 'last' },
});

/** The weight gradient's rounding of each scheme, all else in f32. */
export const biasSchemes = {
  SR: backwardSr.gradWeight,
  RTN: backwardRtn.gradWeight,
  'RTN-PMA': backwardPma.gradWeight,
  QuEST: backwardQuest.gradWeight,
  'RTN, signs last': signsLast(backwardRtn.gradWeight),
} as const satisfies Record<string, ProductRecipe>;

export type BiasScheme = keyof typeof biasSchemes;

/** Relative squared error of the mean of B = 1, 4, 16, … `most` weight gradients. */
export async function gradientBias(
  backend: Backend,
  scheme: BiasScheme,
  most: number,
  seed: number,
): Promise<{ count: number; error: number }[]> {
  const recipe = { ...plain, gradWeight: biasSchemes[scheme] };
  const counts = powersOfFour(most);
  const exact = (await passes(backend, plain, 1, seed, [1]))[0];
  const power = exact.reduce((sum, v) => sum + v * v, 0);
  return (await passes(backend, recipe, most, seed, counts)).map((mean, i) => ({
    count: counts[i],
    error: mean.reduce((sum, v, at) => sum + (v - exact[at]) ** 2, 0) / power,
  }));
}

const powersOfFour = (most: number) =>
  Array.from({ length: 1 + Math.floor(Math.log2(most) / 2 + 1e-9) }, (_, i) => 4 ** i);

/** The mean weight gradient after each of `counts` passes. */
async function passes(
  backend: Backend,
  recipe: LinearRecipe,
  most: number,
  seed: number,
  counts: readonly number[],
): Promise<Float64Array[]> {
  const { products, inputs } = recipeProducts(['layer'], () => recipe, { seed, longest: 32 });
  const graph = trace((g) => {
    const product = products(g)?.('layer');
    if (!product) throw new Error('bias: the layer has no product');
    const [x, w] = [g.input('x', f32([tokens, size])), g.input('w', f32([size, size]))];
    const [gw] = gradients(g, product(x, w), [w], { seed: g.input('e', f32([tokens, size])) });
    g.output('gw', gw);
  });
  const run = await backend.compile(graph, { params: new Map() });
  try {
    for (const [name, key] of Object.entries({ x: 1, e: 2 })) run.write(name, common(8 * seed + key));
    if (graph.inputs.has('w')) run.write('w', gaussianMatrix(size, size, 8 * seed));
    const sum = new Float64Array(size * size);
    const means: Float64Array[] = [];
    for (let pass = 0; pass < most; pass++) {
      for (const [name, values] of inputs(pass)) if (graph.inputs.has(name)) run.write(name, values);
      await run.run();
      for (const [i, v] of (await run.read('gw')).data.entries()) sum[i] += v;
      if (counts.includes(pass + 1)) means.push(sum.map((v) => v / (pass + 1)));
    }
    return means;
  } finally {
    run.dispose();
  }
}

function common(seed: number): Float32Array {
  const shared = gaussianMatrix(1, size, seed + 4);
  return gaussianMatrix(tokens, size, seed).map((v, i) => 0.5 * v + shared[i % size]);
}
