// Every recipe's step on the WASM backend against the same in float64 with rounded operands (recipe-formulas.ts). What
// differs is nothing but the order and width of sums.

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { matrix, recipeFormulas, worstError } from '../../../test/support/recipe-formulas.ts';
import type { Backend } from '../../backends/backend.ts';
import { gaussian } from '../../backends/op-case.ts';
import { createWasmBackend } from '../../backends/wasm/backend.ts';
import { gradients } from '../../graph/differentiate.ts';
import { add } from '../../graph/ops/arithmetic.ts';
import { trace } from '../../graph/trace.ts';
import { f32 } from '../../graph/value-type.ts';
import type { LinearRecipe } from './linear-recipe.ts';
import { longestBlock, recipeProducts } from './products.ts';
import { type RecipeName, recipeNames, recipes } from './registry.ts';

const [T, k, n] = [128, 160, 128];
const seed = 4;
const batch = 3;
const names = ['first', 'second'];
/** Number of the layer that is looked at: its streams and signs are not those of number 0. */
const number = 1;

let wasm: Backend;
beforeAll(async () => {
  wasm = await createWasmBackend({ threads: 2 });
});
afterAll(() => wasm.dispose());

const formulas = (recipe: LinearRecipe) =>
  recipeFormulas(
    recipe,
    { x, w, e },
    { seed, batch, layers: names.length, number, longest: longestBlock([recipe], [T, k, n]) },
  );

const x = matrix(
  T,
  k,
  gaussian(1, [T, k]).map((v, i) => v * ((i % k) % 37 === 0 ? 9 : 1)),
);
const w = matrix(n, k, gaussian(2, [n, k], 0.08));
const second = matrix(n, k, gaussian(6, [n, k], 0.08));
const e = matrix(
  T,
  n,
  gaussian(3, [T, n], 1e-4).map((v, i) => v * (Math.floor(i / n) % 29 === 0 ? 12 : 1)),
);

async function step(recipe: LinearRecipe) {
  const { products, inputs } = recipeProducts(names, () => recipe, {
    seed,
    longest: longestBlock([recipe], [T, k, n]),
  });
  const graph = trace((g) => {
    const product = products(g)?.(names[number]);
    const [vx, vw] = [g.input('x', f32([T, k])), g.input('w', f32([n, k]))];
    const y = product!(vx, vw);
    const [gx, gw] = gradients(g, y, [vx, vw], { seed: g.input('e', f32([T, n])) });
    for (const [name, value] of Object.entries({ y, gx, gw })) g.output(name, value);
  });
  const run = await wasm.compile(graph, { params: new Map() });
  for (const [name, { data }] of Object.entries({ x, w, e })) run.write(name, Float32Array.from(data));
  for (const [name, values] of inputs(batch)) if (graph.inputs.has(name)) run.write(name, values);
  await run.run();
  const found: Record<string, ArrayLike<number>> = {};
  for (const name of ['y', 'gx', 'gw']) found[name] = Float32Array.from((await run.read(name)).data);
  run.dispose();
  return found;
}

describe('one step of a layer is its formula', () => {
  it.each(recipeNames)('%s', async (name) => {
    const recipe: LinearRecipe = recipes[name];
    const found = await step(recipe);
    const expected = formulas(recipe);
    for (const [part, values] of Object.entries(expected))
      expect(worstError(found[part], values), part).toBeLessThan(3e-6);
  });
});

describe('layers that share an input', () => {
  it.each(['quartet', 'quartet-2-h32', 'halo-1', 'nvfp4-nvidia'] as const)(
    'round it once for all weight gradients: %s',
    async (name) => {
      const recipe: LinearRecipe = recipes[name];
      const longest = longestBlock([recipe], [T, k, n]);
      const { products, inputs } = recipeProducts(names, () => recipe, { seed, longest });
      const graph = trace((g) => {
        const product = products(g)!;
        const vx = g.input('x', f32([T, k]));
        const weights = names.map((_, i) => g.input(`w${i}`, f32([n, k])));
        const outputs = weights.map((v, i) => product(names[i])!(vx, v));
        const found = gradients(g, add(outputs[0], outputs[1]), [vx, ...weights], { seed: g.input('e', f32([T, n])) });
        g.output('y', outputs[1]);
        for (const [i, value] of found.entries()) g.output(`g${i}`, value);
      });
      const run = await wasm.compile(graph, { params: new Map() });
      const data = { x, w0: w, w1: second, e };
      for (const [key, values] of Object.entries(data)) run.write(key, Float32Array.from(values.data));
      for (const [key, values] of inputs(batch)) if (graph.inputs.has(key)) run.write(key, values);
      await run.run();
      const read = async (key: string) => Float32Array.from((await run.read(key)).data);
      const draws = { seed, batch, layers: names.length, longest };
      const [one, two] = [w, second].map((weight, i) =>
        recipeFormulas(recipe, { x, w: weight, e }, { ...draws, number: i, owner: 0 }),
      );
      expect(worstError(await read('y'), two.y)).toBeLessThan(3e-6);
      expect(worstError(await read('g2'), two.gw)).toBeLessThan(3e-6);
      expect(worstError(await read('g1'), one.gw)).toBeLessThan(3e-6);
      const gx = matrix(
        T,
        k,
        one.gx.data.map((v, i) => v + two.gx.data[i]),
      );
      expect(worstError(await read('g0'), gx)).toBeLessThan(3e-6);
      run.dispose();
    },
  );
});

it('rounding loses what its bits say: errors of y and gx by recipe', async () => {
  const exact = formulas(recipes.f32);
  const error = async (name: RecipeName, part: 'y' | 'gx' | 'gw') => {
    const found = (await step(recipes[name]))[part];
    const { data } = exact[part];
    return data.reduce((sum, v, i) => sum + (v - found[i]) ** 2, 0) / data.reduce((sum, v) => sum + v * v, 0);
  };
  for (const part of ['y', 'gx', 'gw'] as const) {
    const [b, m8, m6, q] = [
      await error('bf16', part),
      await error('mxfp8', part),
      await error('mxfp6', part),
      await error('quartet', part),
    ];
    expect(b).toBeLessThan(2e-5);
    expect(m8).toBeGreaterThan(3 * b);
    expect(m8).toBeLessThan(8e-3);
    expect(m6).toBeLessThan(q / 3);
    expect(q).toBeLessThan(0.25);
  }
});

it('outliers kept apart lower the error of y, the more the more of them', async () => {
  const { data } = formulas(recipes.f32).y;
  const errors: number[] = [];
  for (const outliers of [undefined, 0.99, 0.97, 0.94]) {
    const { forward } = recipes['fp4-dge-occ'];
    const a = { ...forward.a, outliers };
    const { y } = await step({ ...recipes['fp4-dge-occ'], forward: { ...forward, a } });
    errors.push(data.reduce((sum, v, i) => sum + (v - y[i]) ** 2, 0));
  }
  for (let i = 1; i < errors.length; i++) expect(errors[i]).toBeLessThan(errors[i - 1]);
  expect(errors[3]).toBeLessThan(errors[0] / 2);
});
