// Quartet's linear layer against its formulas, written here in float64 from the paper: own Hadamard matrix, own rounding to
// E2M1, the shared random numbers. Then what must hold of its parts: no bias, no clipping, saved codes.

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Backend } from '../../backends/backend.ts';
import { gaussian } from '../../backends/op-case.ts';
import { createReferenceBackend } from '../../backends/reference/reference-backend.ts';
import { createWasmBackend } from '../../backends/wasm/backend.ts';
import { roundingSource } from '../../formats/random.ts';
import { gradients } from '../../graph/differentiate.ts';
import { planMemory } from '../../graph/plan.ts';
import { trace } from '../../graph/trace.ts';
import { f32 } from '../../graph/value-type.ts';
import { alike, type LinearRecipe, plain } from './linear-recipe.ts';
import { drawSigns, recipeProducts } from './products.ts';
import { bf16 } from './systems/bf16.ts';
import {
  backwardPma,
  backwardRtn,
  backwardSr,
  quartet,
  quartetNearest,
  quartetSignsLast,
  quartetWith,
  questExact,
} from './systems/quartet.ts';

const [T, k, n] = [64, 96, 64];
let wasm: Backend;
beforeAll(async () => {
  wasm = await createWasmBackend({ threads: 2 });
});
afterAll(() => wasm.dispose());

const keys = { seed: 9, longest: 32 };

/** y, gx and gw of one layer for a given gradient of y. */
async function layer(
  backend: Backend,
  recipe: LinearRecipe,
  data: { x: ArrayLike<number>; w: ArrayLike<number>; e: ArrayLike<number> },
  batches = [0],
  [rows, inner, outer]: Shape3 = [T, k, n],
): Promise<{ y: Float32Array; gx: Float32Array; gw: Float32Array }[]> {
  const { products, inputs } = recipeProducts(['layer'], () => recipe, keys);
  const graph = trace((g) => {
    const product = products(g)?.('layer');
    if (!product) throw new Error('no product');
    const [x, w] = [g.input('x', f32([rows, inner])), g.input('w', f32([outer, inner]))];
    const y = product(x, w);
    const [gx, gw] = gradients(g, y, [x, w], { seed: g.input('e', f32([rows, outer])) });
    for (const [name, value] of Object.entries({ y, gx, gw })) g.output(name, value);
  });
  const run = await backend.compile(graph, { params: new Map() });
  for (const [name, values] of Object.entries(data)) run.write(name, Float32Array.from(values));
  const results: { y: Float32Array; gx: Float32Array; gw: Float32Array }[] = [];
  for (const batch of batches) {
    for (const [name, values] of inputs(batch)) if (graph.inputs.has(name)) run.write(name, values);
    await run.run();
    const read = async (name: string) => Float32Array.from((await run.read(name)).data);
    results.push({ y: await read('y'), gx: await read('gx'), gw: await read('gw') });
  }
  run.dispose();
  return results;
}

type Shape3 = [rows: number, inner: number, outer: number];
type Matrix = number[][];
const matrix = (data: ArrayLike<number>, rows: number, columns: number): Matrix =>
  Array.from({ length: rows }, (_, r) => Array.from({ length: columns }, (_, c) => data[r * columns + c]));
const transposed = (a: Matrix): Matrix => a[0].map((_, c) => a.map((row) => row[c]));
const times = (a: Matrix, b: Matrix): Matrix => {
  const bt = transposed(b);
  return a.map((row) => bt.map((column) => row.reduce((sum, v, i) => sum + v * column[i], 0)));
};
const popcount = (i: number) => i.toString(2).replaceAll('0', '').length;
const H: Matrix = Array.from({ length: 32 }, (_, i) =>
  Array.from({ length: 32 }, (_, j) => (popcount(i & j) % 2 === 0 ? 1 : -1) / Math.sqrt(32)),
);
const blocks = (row: number[]) => Array.from({ length: row.length / 32 }, (_, b) => row.slice(32 * b, 32 * b + 32));
/** Rows in blocks of 32 times a matrix. */
const turned = (a: Matrix, by: Matrix): Matrix => a.map((row) => blocks(row).flatMap((block) => times([block], by)[0]));
const levels = [0, 0.5, 1, 1.5, 2, 3, 4, 6];
/** Nearest level, the smaller one on ties. */
const nearest = (a: number) => levels.findLast((level, i) => i === 0 || a > (level + levels[i - 1]) / 2)!;

function forwardRounding(v: Matrix, power: (log2: number) => number) {
  const h = turned(v, H);
  const mask: Matrix = [];
  const out = h.map((row) => {
    const bits: number[] = [];
    const rounded = blocks(row).flatMap((block) => {
      const mean = block.reduce((a, b) => a + b) / 32;
      const std = Math.sqrt(block.reduce((a, b) => a + b * b, 0) / 32 - mean * mean);
      const s = 2 ** power(Math.log2((2.92247856 / 6) * std + 1e-8));
      bits.push(...block.map((x) => (Math.abs(x / s) < 6 ? 1 : 0)));
      return block.map((x) => Math.sign(x) * nearest(Math.abs(x / s)) * s);
    });
    mask.push(bits);
    return rounded;
  });
  return { out, mask };
}

/** Scale 2^⌊log2 amax⌋ / 3, stochastic with the numbers of a stream. */
function backwardRounding(v: Matrix, signed: Matrix, stream: number, step: number): Matrix {
  const uniform = roundingSource(keys.seed, stream, step);
  return turned(v, signed).map((row, r) =>
    blocks(row).flatMap((block, b) => {
      const amax = Math.max(...block.map(Math.abs));
      const s = 2 ** Math.floor(Math.log2(amax)) / 3;
      return block.map((x, i) => {
        const z = Math.abs(x / s);
        expect(z).toBeLessThan(6);
        const low = levels.findLast((level) => level <= z)!;
        const high = levels[levels.indexOf(low) + 1];
        const up = uniform.at(r * row.length + 32 * b + i) < (z - low) / (high - low);
        return Math.sign(x) * (up ? high : low) * s;
      });
    }),
  );
}

/** y, gx and gw by the formulas. */
function formulas(x: Matrix, w: Matrix, e: Matrix, batch: number, power: (log2: number) => number, last = false) {
  const [qx, qw] = [forwardRounding(x, power), forwardRounding(w, power)];
  const s = [...drawSigns(32, keys.seed, batch)];
  // (v ∘ s) H, or (v H) ∘ s
  const signed = H.map((row, i) => row.map((h, j) => h * (last ? s[j] : s[i])));
  const stream = 0x10000000;
  const round = (v: Matrix, operand: number) => backwardRounding(v, signed, stream + operand, batch);
  const product = (a: Matrix, b: Matrix) => times(a, transposed(b));
  const gxh = product(round(e, 2), round(transposed(qw.out), 3));
  const gwh = product(round(transposed(e), 4), round(transposed(qx.out), 5));
  const masked = (g: Matrix, mask: Matrix) => g.map((row, r) => row.map((v, c) => v * mask[r][c]));
  const gx = turned(masked(gxh, qx.mask), H);
  const gw = turned(masked(gwh, qw.mask), H);
  return { y: product(qx.out, qw.out), gx, gw, mask: [qx.mask, qw.mask] };
}

function expectClose(found: Float32Array, expected: Matrix, tolerance: number, name: string) {
  const flat = expected.flat();
  const largest = Math.max(...flat.map(Math.abs));
  const worst = flat.reduce((most, v, i) => Math.max(most, Math.abs(v - found[i])), 0);
  expect(worst / largest, name).toBeLessThan(tolerance);
}

const data = {
  x: gaussian(1, [T, k]).map((v, i) => v * (1 + 3 * ((i % k) % 7 === 0 ? 1 : 0))),
  w: gaussian(2, [n, k], 0.1),
  e: gaussian(3, [T, n], 1e-3),
};
const [x, w, e] = [matrix(data.x, T, k), matrix(data.w, n, k), matrix(data.e, T, n)];

describe.each(['reference', 'wasm'] as const)('Quartet on %s', (name) => {
  const backend = () => (name === 'wasm' ? wasm : createReferenceBackend());

  it.each<[string, LinearRecipe, (log2: number) => number, boolean]>([
    ['scales rounded down', quartet, Math.floor, false],
    ['scales to nearest', quartetNearest, Math.round, false],
    ['real scales', quartetWith({ scale: 'none' }), (log2) => log2, false],
    ['signs last', quartetSignsLast, Math.floor, true],
  ])('is its formulas: %s', async (_, recipe, power, last) => {
    const batches = [0, 7];
    const found = await layer(backend(), recipe, data, batches);
    for (const [i, batch] of batches.entries()) {
      const expected = formulas(x, w, e, batch, power, last);
      expectClose(found[i].y, expected.y, 2e-6, 'y');
      expectClose(found[i].gx, expected.gx, 2e-6, 'gx');
      expectClose(found[i].gw, expected.gw, 2e-6, 'gw');
      const masked = expected.mask.flat(2).filter((bit) => bit === 0).length;
      if (power === Math.floor) expect(masked).toBeGreaterThan(20);
    }
    expect(found[0].y).toEqual(found[1].y);
    expect(found[0].gw).not.toEqual(found[1].gw);
  });

  it('with exact backward products has the masked gradient of the rounded product', async () => {
    const [found] = await layer(backend(), questExact, data);
    const [qx, qw] = [forwardRounding(x, Math.floor), forwardRounding(w, Math.floor)];
    const masked = (g: Matrix, mask: Matrix) => g.map((row, r) => row.map((v, c) => v * mask[r][c]));
    expectClose(found.gx, turned(masked(times(e, qw.out), qx.mask), H), 2e-6, 'gx');
    expectClose(found.gw, turned(masked(times(transposed(e), qx.out), qw.mask), H), 2e-6, 'gw');
  });
});

describe('what must hold of the parts', () => {
  const relative = (mean: Float64Array, exact: Float32Array) =>
    mean.reduce((sum, v, i) => sum + (v - exact[i]) ** 2, 0) / exact.reduce((sum, v) => sum + v * v, 0);
  /** Relative error of the mean of B weight gradients, for rows with a component in common, on average over means. */
  async function bias(recipe: LinearRecipe, counts: number[]) {
    const [rows, size] = [256, 32];
    const shape: Shape3 = [rows, size, size];
    const common = (seed: number) => {
      const shared = gaussian(seed + 10, [size]);
      return gaussian(seed, [rows, size]).map((v, i) => 0.5 * v + shared[i % size]);
    };
    const tilted = { x: common(1), w: gaussian(2, [size, size]), e: common(3) };
    const [{ gw: exact }] = await layer(wasm, plain, tilted, [0], shape);
    // the component in common makes a few large errors of many: one mean of four says little
    const passes = 1024;
    const runs = await layer(
      wasm,
      recipe,
      tilted,
      Array.from({ length: passes }, (_, i) => i),
      shape,
    );
    return counts.map((count) => {
      let sum = 0;
      for (let first = 0; first < passes; first += count) {
        const mean = new Float64Array(exact.length);
        for (const { gw } of runs.slice(first, first + count)) for (const [i, v] of gw.entries()) mean[i] += v / count;
        sum += relative(mean, exact);
      }
      return (sum * count) / passes;
    });
  }

  it('stochastic rounding with random rotations has no bias: errors fall with the number of passes', async () => {
    const [one, many] = await bias({ ...plain, gradWeight: backwardSr.gradWeight }, [4, 256]);
    expect(many / one).toBeLessThan(1 / 40);
  });

  it('MS-EDEN has next to none, at about half the error of stochastic rounding in NVFP4', async () => {
    const rotation = { block: 32, signs: 'random' } as const;
    const [one, many] = await bias({ ...plain, gradWeight: alike({ format: 'nvfp4-mseden' }, rotation) }, [4, 256]);
    const [sr] = await bias({ ...plain, gradWeight: alike({ format: 'nvfp4-sr' }, rotation) }, [4]);
    expect(one / sr).toBeLessThan(0.6);
    expect(many / one).toBeLessThan(1 / 20);
  });

  it('nearest rounding has one; signs after the transform do not move it at all', async () => {
    const rtn = { ...plain, gradWeight: backwardRtn.gradWeight };
    const [one, many] = await bias(rtn, [4, 256]);
    expect(many / one).toBeGreaterThan(1 / 8);
    const rotation = { block: 32, signs: 'random', order: 'last' } as const;
    const wrong = await layer(wasm, { ...rtn, gradWeight: { ...rtn.gradWeight, rotation } }, data, [0, 1, 2]);
    // nothing but the order of sums may differ
    const { gw } = wrong[0];
    const largest = Math.max(...gw.map(Math.abs));
    for (const other of wrong.slice(1))
      expect(Math.max(...gw.map((v, i) => Math.abs(v - other.gw[i]))) / largest).toBeLessThan(1e-6);
  });

  it('magnitude alignment makes ⟨q, x⟩ = ⟨x, x⟩ on Gaussian data, nearest alone does not', async () => {
    const alignment = async (recipe: LinearRecipe) => {
      const batches = Array.from({ length: 16 }, (_, i) => i);
      const [exact] = await layer(wasm, plain, data);
      const found = await layer(wasm, { ...plain, gradWeight: recipe.gradWeight }, data, batches);
      const dot = (a: Float32Array, b: Float32Array) => a.reduce((sum, v, i) => sum + v * b[i], 0);
      return found.reduce((sum, { gw }) => sum + dot(gw, exact.gw), 0) / batches.length / dot(exact.gw, exact.gw);
    };
    // two operands: twice the misalignment of one, 9.3e-3
    expect(1 - (await alignment(backwardRtn))).toBeGreaterThan(0.01);
    expect(Math.abs(1 - (await alignment(backwardPma)))).toBeLessThan(0.006);
    expect(Math.abs(1 - (await alignment(backwardSr)))).toBeLessThan(0.01);
  });

  it('keeps codes and bits for the backward pass, not tensors', () => {
    const saved = (recipe: LinearRecipe) => {
      const [rows, size, depth] = [1024, 512, 6];
      const { products } = recipeProducts(['layer'], () => recipe, keys);
      const graph = trace((g) => {
        const product = products(g)?.('layer');
        const weights = Array.from({ length: depth }, (_, i) => g.state(`w${i}`, f32([size, size])));
        const y = weights.reduce((h, weight) => product!(h, weight), g.input('x', f32([rows, size])));
        for (const [i, gw] of gradients(g, y, weights, {
          seed: g.input('e', f32([rows, size])),
        }).entries())
          g.output(`gw${i}`, gw);
      });
      return planMemory(graph).arenaBytes;
    };
    const [full, half, quarter] = [saved(plain), saved(bf16), saved(quartet)];
    // six activations of 2 MiB in f32, or their codes of 4.25 bits and one bit each
    expect(half).toBeLessThan(full);
    expect(quarter).toBeLessThan(half);
  });
});
