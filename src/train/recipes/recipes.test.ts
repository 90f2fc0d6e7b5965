// Every recipe's step on the WASM backend against the same in float64 with rounded operands: dequantize(quantize(v)) by the
// reference codec, products and rotations as plain sums. What differs is nothing but the order and width of sums.

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Backend } from '../../backends/backend.ts';
import { gaussian } from '../../backends/op-case.ts';
import { createWasmBackend } from '../../backends/wasm/backend.ts';
import { clipBits } from '../../formats/clip-bits.ts';
import { dequantize, quantize } from '../../formats/quantize.ts';
import { parseFormat } from '../../formats/registry.ts';
import { gradients } from '../../graph/differentiate.ts';
import { trace } from '../../graph/trace.ts';
import { f32 } from '../../graph/value-type.ts';
import type { LinearRecipe, Operand, Rotation } from './linear-recipe.ts';
import { drawSigns, longestBlock, recipeProducts } from './products.ts';
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

interface Matrix {
  rows: number;
  columns: number;
  data: Float64Array;
}
const matrix = (rows: number, columns: number, data: ArrayLike<number>): Matrix => ({
  rows,
  columns,
  data: Float64Array.from(data),
});
const transposed = ({ rows, columns, data }: Matrix): Matrix =>
  matrix(
    columns,
    rows,
    Float64Array.from(data, (_, i) => data[(i % rows) * columns + Math.floor(i / rows)]),
  );
/** a · bᵀ */
function product(a: Matrix, b: Matrix, factor = 1): Matrix {
  const out = new Float64Array(a.rows * b.rows);
  for (let i = 0; i < a.rows; i++)
    for (let j = 0; j < b.rows; j++)
      for (let c = 0; c < a.columns; c++)
        out[i * b.rows + j] += factor * a.data[i * a.columns + c] * b.data[j * b.columns + c];
  return matrix(a.rows, b.rows, out);
}
const bits = (i: number) => i.toString(2).replaceAll('0', '').length;

/** Rotation along the columns, or its inverse. */
function rotated(v: Matrix, rotation: Rotation | undefined, longest: number, back = false): Matrix {
  if (!rotation) return v;
  let block = rotation.block === 'whole' ? 1 : rotation.block;
  if (rotation.block === 'whole') while (v.columns % (2 * block) === 0) block *= 2;
  const all =
    rotation.signs === 'random'
      ? drawSigns(names.length * longest, seed, batch).slice(number * longest)
      : drawSigns(block, seed, -1);
  const s = (i: number) => (rotation.signs === 'none' ? 1 : all[i]);
  const out = new Float64Array(v.data.length);
  for (let at = 0; at < out.length; at += block)
    for (let i = 0; i < block; i++)
      for (let j = 0; j < block; j++) {
        const h = (bits(i & j) % 2 === 0 ? 1 : -1) / Math.sqrt(block);
        // entry (i, j) of diag(s) H, or of H diag(s)
        const entry = h * (rotation.order === 'last' ? s(j) : s(i));
        if (back) out[at + i] += v.data[at + j] * entry;
        else out[at + j] += v.data[at + i] * entry;
      }
  return matrix(v.rows, v.columns, out);
}

function rounded(
  v: Matrix,
  { format, bound }: Operand,
  operand: number,
): { values: Matrix; kept: (i: number) => boolean } {
  if (format === 'f32') return { values: v, kept: () => true };
  const stream = 0x10000000 + 8 * number + operand;
  const q = quantize(Float32Array.from(v.data), v.rows, v.columns, parseFormat(format), { seed, stream, step: batch });
  const words = bound === undefined ? undefined : clipBits(Float32Array.from(v.data), q, bound);
  const kept = (i: number) => !words || ((words[i >> 5] >> (i & 31)) & 1) === 1;
  return { values: matrix(v.rows, v.columns, dequantize(q)), kept };
}

function formulas(recipe: LinearRecipe, x: Matrix, w: Matrix, e: Matrix) {
  const longest = longestBlock([recipe], [T, k, n]);
  const turn = (v: Matrix, operand: Operand, rotation: Rotation | undefined) => {
    const along = rotated(v, rotation, longest);
    return operand.outer ? transposed(rotated(transposed(along), operand.outer, longest)) : along;
  };
  const { forward, gradInput, gradWeight } = recipe;
  const [tx, tw] = [turn(x, forward.a, forward.rotation), turn(w, forward.b, forward.rotation)];
  const [qx, qw] = [rounded(tx, forward.a, 0), rounded(tw, forward.b, 1)];
  const backward = (p: LinearRecipe['gradInput'], a: Matrix, b: Matrix, first: number) => {
    const [qa, qb] = [rounded(turn(a, p.a, p.rotation), p.a, first), rounded(turn(b, p.b, p.rotation), p.b, first + 1)];
    const y = product(qa.values, qb.values, (p.a.correction ?? 1) * (p.b.correction ?? 1));
    const undone = p.a.outer ? transposed(rotated(transposed(y), p.a.outer, longest, true)) : y;
    return rotated(undone, p.b.outer, longest, true);
  };
  const from = ({ from: source }: Operand, plain: Matrix, seen: Matrix) =>
    transposed(source === 'exact' ? plain : seen);
  const back = (g: Matrix, kept: (i: number) => boolean) =>
    rotated(
      matrix(
        g.rows,
        g.columns,
        g.data.map((v, i) => (kept(i) ? v : 0)),
      ),
      forward.rotation,
      longest,
      true,
    );
  return {
    y: product(qx.values, qw.values),
    gx: back(backward(gradInput, e, from(gradInput.b, tw, qw.values), 2), qx.kept),
    gw: back(backward(gradWeight, transposed(e), from(gradWeight.b, tx, qx.values), 4), qw.kept),
  };
}

const x = matrix(
  T,
  k,
  gaussian(1, [T, k]).map((v, i) => v * ((i % k) % 37 === 0 ? 9 : 1)),
);
const w = matrix(n, k, gaussian(2, [n, k], 0.08));
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
    const expected = formulas(recipe, x, w, e);
    for (const [part, { data }] of Object.entries(expected)) {
      const largest = data.reduce((most, v) => Math.max(most, Math.abs(v)), 0);
      const worst = data.reduce((most, v, i) => Math.max(most, Math.abs(v - found[part][i])), 0);
      expect(worst / largest, part).toBeLessThan(3e-6);
    }
  });
});

it('rounding loses what its bits say: errors of y and gx by recipe', async () => {
  const exact = formulas(recipes.f32, x, w, e);
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
