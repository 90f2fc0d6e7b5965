// Layers of experts under every recipe against their formulas in float64, each expert by itself on its own rows; then
// training steps of a model with experts.

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { tinyWeights } from '../../../test/fixtures/models/memory-source.ts';
import { tinyConfigs, tinyModel } from '../../../test/fixtures/models/tiny-models.ts';
import {
  type Matrix,
  matrix,
  type Products,
  product,
  recipeFormulas,
  rowsOf,
  stacked,
  transposed,
  worstError,
} from '../../../test/support/recipe-formulas.ts';
import type { Backend } from '../../backends/backend.ts';
import { gaussian, integers } from '../../backends/op-case.ts';
import { createWasmBackend } from '../../backends/wasm/backend.ts';
import { gradients } from '../../graph/differentiate.ts';
import { trace } from '../../graph/trace.ts';
import { f32, i32 } from '../../graph/value-type.ts';
import { parseConfig } from '../../models/config.ts';
import { createConfig } from '../config/config.ts';
import { NoiseProbe } from '../noise.ts';
import { loadTrainable } from '../step.ts';
import { Trainer } from '../trainer.ts';
import { rowBlock } from './expert-product.ts';
import type { LinearRecipe } from './linear-recipe.ts';
import { openPhases, trainedLayers } from './phases.ts';
import { longestBlock, recipeProducts } from './products.ts';
import { recipeNames, recipes } from './registry.ts';

// N rows take k of E experts; expert 2 has no rows
const [N, k, E, K, M] = [40, 2, 4, 128, 128];
// Of step 3 one number of forward-sr lies between its threshold and the next f32, and the sums of the rotation decide on
// which side: expert 3, row 106, column 17, 0.162678719 in float64, 0.162678733 in f32.
const [seed, batch, number] = [4, 5, 1];
const names = ['first', 'second'];

let wasm: Backend;
beforeAll(async () => {
  wasm = await createWasmBackend({ threads: 2 });
});
afterAll(() => wasm.dispose());

const indices = integers(7, [N, k], 0, 3).map((e) => (e === 2 ? 3 : e));
const weight = matrix(E * M, K, gaussian(2, [E * M, K], 0.08));
const incoming = gaussian(3, [N, k, M], 1e-4).map((v, i) => v * (Math.floor(i / M) % 29 === 0 ? 12 : 1));
const shared = gaussian(1, [N, K]).map((v, i) => v * ((i % K) % 37 === 0 ? 9 : 1));
const own = gaussian(5, [N, k, K]);

/** The slots of each expert, and where its rows lie when each begins with a block. */
function segments(block: number) {
  const R = block * Math.floor((N * k + E * (block - 1)) / block);
  let first = 0;
  const parts = Array.from({ length: E }, (_, e) => {
    const slots = [...indices.keys()].filter((slot) => indices[slot] === e);
    const part = { e, first, slots, rows: Math.ceil(slots.length / block) * block };
    first += part.rows;
    return part;
  });
  return { R, parts };
}

function sortedRows(columns: number, block: number, rowOf: (slot: number) => ArrayLike<number>): Matrix {
  const { R, parts } = segments(block);
  const out = matrix(R, columns, new Float64Array(R * columns));
  for (const { first, slots } of parts)
    for (const [i, slot] of slots.entries()) out.data.set(Float64Array.from(rowOf(slot)), (first + i) * columns);
  return out;
}

/** Every expert multiplies its rows; rows of no expert are zeros. */
function byExpert(block: number): Products {
  const { R, parts } = segments(block);
  const each = (a: Matrix, b: Matrix) => {
    const size = b.rows / E;
    const out = matrix(R, size, new Float64Array(R * size));
    for (const { e, first, rows } of parts)
      out.data.set(product(rowsOf(a, first, rows), rowsOf(b, e * size, size)).data, first * size);
    return out;
  };
  return {
    forward: each,
    gradInput: each,
    gradWeight: (eT, xT) => {
      const [e, x] = [transposed(eT), transposed(xT)];
      const rows = (v: Matrix, part: (typeof parts)[number]) => transposed(rowsOf(v, part.first, part.rows));
      return stacked(parts.map((part) => product(rows(e, part), rows(x, part))));
    },
    transposedWeight: (w) => stacked(Array.from({ length: E }, (_, i) => transposed(rowsOf(w, i * M, M)))),
  };
}

const slice = (data: ArrayLike<number>, row: number, columns: number) =>
  Array.from({ length: columns }, (_, i) => data[row * columns + i]);

/** HALO-2's rotation over all rows is one of blocks of 64. */
const limited = (recipe: LinearRecipe): LinearRecipe => {
  const { a } = recipe.gradInput;
  if (!a.outer) return recipe;
  return { ...recipe, gradInput: { ...recipe.gradInput, a: { ...a, outer: { ...a.outer, block: 64 } } } };
};

function expected(recipe: LinearRecipe, x: ArrayLike<number>, slotsOwnRows: boolean) {
  const block = rowBlock(recipe);
  const sorted = {
    x: sortedRows(K, block, (slot) => slice(x, slotsOwnRows ? slot : Math.floor(slot / k), K)),
    w: weight,
    e: sortedRows(M, block, (slot) => slice(incoming, slot, M)),
  };
  const draws = { seed, batch, layers: names.length, number, longest: longestBlock([recipe], [K, M]) };
  const { y, gx, gw } = recipeFormulas(limited(recipe), sorted, draws, byExpert(block));
  const ys = matrix(N * k, M, new Float64Array(N * k * M));
  const gxs = matrix(slotsOwnRows ? N * k : N, K, new Float64Array((slotsOwnRows ? N * k : N) * K));
  for (const { first, slots } of segments(block).parts)
    for (const [i, slot] of slots.entries()) {
      ys.data.set(y.data.subarray((first + i) * M, (first + i + 1) * M), slot * M);
      const row = slotsOwnRows ? slot : Math.floor(slot / k);
      for (let c = 0; c < K; c++) gxs.data[row * K + c] += gx.data[(first + i) * K + c];
    }
  return { y: ys, gx: gxs, gw };
}

async function step(recipe: LinearRecipe, x: Float32Array, shape: readonly number[]) {
  const longest = longestBlock([recipe], [K, M]);
  const { products, inputs } = recipeProducts(names, () => recipe, { seed, longest });
  const graph = trace((g) => {
    const [vx, vw] = [g.input('x', f32(shape)), g.input('w', f32([E, M, K]))];
    const y = products(g)!(names[number])!(vx, vw, g.input('indices', i32([N, k])));
    const [gx, gw] = gradients(g, y, [vx, vw], { seed: g.input('e', f32([N, k, M])) });
    for (const [name, value] of Object.entries({ y, gx, gw })) g.output(name, value);
  });
  const run = await wasm.compile(graph, { params: new Map() });
  const data = { x, w: Float32Array.from(weight.data), e: Float32Array.from(incoming), indices };
  for (const [name, values] of Object.entries(data)) run.write(name, values);
  for (const [name, values] of inputs(batch)) if (graph.inputs.has(name)) run.write(name, values);
  await run.run();
  const found: Record<string, ArrayLike<number>> = {};
  for (const name of ['y', 'gx', 'gw']) found[name] = Float32Array.from((await run.read(name)).data);
  run.dispose();
  return found;
}

describe('one step of a layer of experts is its formula', () => {
  it.each(recipeNames)('%s', async (name) => {
    const recipe: LinearRecipe = recipes[name];
    const found = await step(recipe, shared, [N, K]);
    const formulas = expected(recipe, shared, false);
    for (const [part, values] of Object.entries(formulas))
      expect(worstError(found[part], values), part).toBeLessThan(3e-6);
    // an expert without rows has no gradient
    expect(
      Array.from(found.gw)
        .slice(2 * M * K, 3 * M * K)
        .every((v) => v === 0),
    ).toBe(true);
  });

  it('whose slots have rows of their own', async () => {
    const found = await step(recipes.quartet, own, [N, k, K]);
    for (const [part, values] of Object.entries(expected(recipes.quartet, own, true)))
      expect(worstError(found[part], values), part).toBeLessThan(3e-6);
  });

  it('refuses tiles that hold rows of two experts', () => {
    const { products } = recipeProducts(names, () => recipes['nvfp4-nvidia'], { seed, longest: 16 });
    const build = () =>
      trace((g) => {
        const [x, w] = [g.input('x', f32([8, 32])), g.input('w', f32([2, 24, 32]))];
        products(g)!(names[0])!(x, w, g.input('indices', i32([8, 1])));
      });
    expect(build).toThrow(
      /tiles of nvfp4-2d do not end with the matrix of an expert, got 24 rows, expected a multiple of 16/,
    );
  });
});

it('a model of experts learns in low precision, with and without recomputation alike, its router exact', async () => {
  const trait = Object.keys(tinyConfigs).find((name) => name.startsWith('mixtral'))!;
  const sizes = { hidden_size: 64, intermediate_size: 96, vocab_size: 40 };
  const tiny = tinyModel({ ...tinyConfigs[trait], ...sizes }, 3);
  const config = parseConfig(tiny.config);
  const [B, T] = [2, 16];
  const { recipe } = createConfig({
    model: { from: 'tiny' },
    data: { train: 'text' },
    recipe: { use: 'quartet', layers: [{ match: 'layers\\.1\\..*experts\\.down', use: 'bf16' }] },
  });
  const ids = Int32Array.from({ length: B * T }, (_, i) => (i * 17 + 3) % 40);
  const run = async (recompute: boolean) => {
    const model = await loadTrainable(await tinyWeights(tiny), wasm);
    const phases = openPhases(config, { recipe, batch: { sequences: B, tokens: T } as never, steps: 10, seed: 1 });
    const trainer = await Trainer.open(model, {
      ...{ sequences: B, tokens: T, accumulate: 1, recompute, optimizer: { kind: 'adamw' }, decays: () => false },
      products: phases.products(0),
    });
    const losses: number[] = [];
    for (let t = 1; t <= 10; t++) {
      const { losses: found } = await trainer.step(t, [{ ids, targets: ids.map((id) => (id * 3 + 1) % 40) }], 3e-3);
      losses.push(...found);
    }
    const probe = (await NoiseProbe.open(model, { batch: B, tokens: T }, phases.products(0)))!;
    const { ratio } = await probe.measure([[{ ids, targets: ids }, 0]]);
    probe.dispose();
    trainer.dispose();
    return { losses, ratio };
  };
  const found = await run(false);
  expect(found.losses[9]).toBeLessThan(found.losses[0] - 0.3);
  expect(found.ratio).toBeGreaterThan(0.5);
  expect(found.ratio).toBeLessThan(20);
  expect(await run(true)).toEqual(found);
  const layers = trainedLayers(config);
  expect(layers.filter((name) => name.includes('experts'))).toEqual(
    [0, 1].flatMap((i) => ['gate', 'up', 'down'].map((p) => `model.layers.${i}.block_sparse_moe.experts.${p}`)),
  );
  expect(layers.some((name) => name.endsWith('block_sparse_moe.gate'))).toBe(false);
});
