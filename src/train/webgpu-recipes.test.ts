// Every training recipe on the GPU backend: the same codes as the other backends, and steps of a tiny decoder like theirs.
//
// Codes are equal bit for bit on equal inputs. Along a run sums differ in their last bits, so that now and then a value on
// the edge of two codes goes the other way: losses are compared with a tolerance that holds for one such code.

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createTestBackend, missingGpu } from '../../test/support/software-gpu.ts';
import { takeTinySteps } from '../../test/support/tiny-steps.ts';
import type { Backend } from '../backends/backend.ts';
import { gaussian } from '../backends/op-case.ts';
import { createReferenceBackend } from '../backends/reference/reference-backend.ts';
import { createWasmBackend, type WasmBackend } from '../backends/wasm/backend.ts';
import type { WebgpuBackend } from '../backends/webgpu/backend.ts';
import { parseFormat } from '../formats/registry.ts';
import { gradients } from '../graph/differentiate.ts';
import { hadamard } from '../graph/ops/hadamard.ts';
import { dequantize, quantize, quantizeWithBits } from '../graph/ops/quantize.ts';
import { trace } from '../graph/trace.ts';
import { f32, i32 } from '../graph/value-type.ts';
import type { LinearRecipe } from './recipes/linear-recipe.ts';
import { longestBlock, recipeProducts } from './recipes/products.ts';
import { type RecipeName, recipeNames, recipes } from './recipes/registry.ts';
import type { TrainerOptions } from './trainer.ts';

const seed = 11;
const steps = 3;

/** Losses of steps of a decoder of one block, as wide as its batch has tokens. */
const train = async (backend: Backend, use: RecipeName, size: number, more: Partial<TrainerOptions> = {}) =>
  (await takeTinySteps(backend, { use, size, last: steps, more })).losses;

/** Operands of a recipe's three products by what is rounded: format, and bound where gradients are masked. */
function roundings({ forward, gradInput, gradWeight }: LinearRecipe): Map<string, [format: string, bound?: number]> {
  const operands = [forward, gradInput, gradWeight].flatMap(({ a, b }) => [a, b]);
  const rounded = operands.filter(({ format }) => format !== 'f32');
  return new Map(rounded.map(({ format, bound }) => [`${format} ${bound ?? ''}`.trim(), [format, bound]]));
}

const [rows, cols] = [37, 128];

/** Bits of packed codes, as values, and of what is not clipped, in three steps. */
async function codes(backend: Backend, [format, bound]: [format: string, bound?: number]): Promise<Uint32Array[]> {
  const graph = trace((g) => {
    const x = g.input('x', f32([rows, cols]));
    const key = { seed, stream: 0x10000003, step: g.input('step', i32([1])) };
    if (bound === undefined) g.output('y', dequantize(quantize(x, parseFormat(format), key)));
    else {
      const { packed, bits } = quantizeWithBits(x, parseFormat(format), bound, key);
      g.output('y', dequantize(packed));
      g.output('bits', bits);
    }
  });
  const run = await backend.compile(graph, { params: new Map() });
  const results: Uint32Array[] = [];
  const x = gaussian(7, [rows, cols], 0.02).map((v, i) => v * (i % 41 === 0 ? 12 : 1));
  for (const step of [0, 1, 2_000_000_000]) {
    run.write('x', x);
    run.write('step', Int32Array.of(step));
    await run.run();
    for (const name of graph.outputs.keys()) {
      const { data } = await run.read(name);
      results.push(new Uint32Array(data.buffer.slice(data.byteOffset, data.byteOffset + data.byteLength)));
    }
  }
  run.dispose();
  return results;
}

/** Bits of values turned by random signs and a Hadamard transform. */
async function turned(backend: Backend, blockSize: number): Promise<Uint32Array> {
  const signs = gaussian(3, [blockSize]).map((v) => (v < 0 ? -1 : 1));
  const graph = trace((g) => {
    const given = g.input('signs', f32([blockSize]));
    g.output('y', hadamard(g.input('x', f32([rows, cols])), { blockSize, signs: given }));
  });
  const run = await backend.compile(graph, { params: new Map() });
  run.write('x', gaussian(7, [rows, cols]));
  run.write('signs', signs);
  await run.run();
  const { data } = await run.read('y');
  run.dispose();
  return new Uint32Array(Float32Array.from(data).buffer);
}

/** y = x wᵀ by a recipe, and the gradients of both for a given gradient of y, in the fourth batch. */
async function layer(backend: Backend, recipe: LinearRecipe): Promise<Record<string, Float32Array>> {
  const [T, k, n] = [128, 160, 128];
  const options = { seed, longest: longestBlock([recipe], [T, k, n]) };
  const { products, inputs } = recipeProducts(['other', 'layer'], () => recipe, options);
  const graph = trace((g) => {
    const [x, w] = [g.input('x', f32([T, k])), g.input('w', f32([n, k]))];
    const y = products(g)!('layer')!(x, w);
    const [gx, gw] = gradients(g, y, [x, w], { seed: g.input('e', f32([T, n])) });
    for (const [name, value] of Object.entries({ y, gx, gw })) g.output(name, value);
  });
  const run = await backend.compile(graph, { params: new Map() });
  run.write(
    'x',
    gaussian(1, [T, k]).map((v, i) => v * ((i % k) % 37 === 0 ? 9 : 1)),
  );
  run.write('w', gaussian(2, [n, k], 0.08));
  run.write(
    'e',
    gaussian(3, [T, n], 1e-4).map((v, i) => v * (Math.floor(i / n) % 29 === 0 ? 12 : 1)),
  );
  for (const [name, values] of inputs(3)) if (graph.inputs.has(name)) run.write(name, values);
  await run.run();
  const found: Record<string, Float32Array> = {};
  for (const name of graph.outputs.keys()) found[name] = Float32Array.from((await run.read(name)).data);
  run.dispose();
  return found;
}

const same = (found: readonly Uint32Array[], expected: readonly Uint32Array[]): boolean =>
  expected.every((words, i) => words.every((word, j) => word === found[i][j]));

const all = new Map(recipeNames.flatMap((name) => [...roundings(recipes[name])]));
const missing = missingGpu();

describe.skipIf(missing)(`recipes on webgpu${missing ? ` (${missing})` : ''}`, { timeout: 300_000 }, () => {
  let webgpu: WebgpuBackend;
  let wasm: WasmBackend;
  beforeAll(async () => {
    webgpu = await createTestBackend();
    wasm = await createWasmBackend({ threads: 2 });
  });
  afterAll(() => {
    expect(webgpu.usedBytes).toBe(0);
    webgpu.dispose();
    wasm.dispose();
  });

  it.each([...all])('%s: the same codes on all backends in every step', async (name, rounding) => {
    const expected = await codes(createReferenceBackend(), rounding);
    expect(same(await codes(webgpu, rounding), expected)).toBe(true);
    // WASM decodes the code of −0 to +0.
    const unsigned = (all: Uint32Array[]) => all.map((words) => words.map((word) => (word === 0x80000000 ? 0 : word)));
    expect(same(unsigned(await codes(wasm, rounding)), unsigned(expected))).toBe(true);
    // Steps draw anew where anything is drawn.
    const draws = /-sr|mseden/.test(name);
    expect(same([expected[0]], [expected[expected.length / 3]])).toBe(!draws);
  });

  it.each([2, 16, 32, 128])('a Hadamard transform of %i by random signs: the bits of wasm', async (block) => {
    const [found, expected] = [await turned(webgpu, block), await turned(wasm, block)];
    expect(same([found], [expected])).toBe(true);
  });

  it.each(recipeNames)('%s: products of one layer and their gradients', async (name) => {
    const expected = await layer(wasm, recipes[name]);
    const found = await layer(webgpu, recipes[name]);
    for (const [part, values] of Object.entries(expected)) {
      const largest = values.reduce((most, v) => Math.max(most, Math.abs(v)), 0);
      const worst = values.reduce((most, v, i) => Math.max(most, Math.abs(v - found[part][i])), 0);
      expect(worst / largest, part).toBeLessThan(3e-6);
    }
  });

  it.each(recipeNames)('%s: the steps of another backend', async (name) => {
    const size = JSON.stringify(recipes[name]).includes('"block":128') ? 128 : 64;
    // the tiny model's attention is sharp: in quartet-2 the last bit of one value turned a code and with it the second loss of
    // WASM by 0.6 % (LOG.md, 2026-11-27), so the wide ones are compared with the reference
    const expected = await train(size === 128 ? createReferenceBackend() : wasm, name, size);
    const found = await train(webgpu, name, size);
    for (const [i, loss] of expected.entries()) expect(Math.abs(found[i] / loss - 1)).toBeLessThan(1e-3);
  });

  it('weights kept in bf16: the steps of wasm', async () => {
    const expected = await train(wasm, 'f32', 64, { bf16Seed: 5 });
    const found = await train(webgpu, 'f32', 64, { bf16Seed: 5 });
    for (const [i, loss] of expected.entries()) expect(Math.abs(found[i] / loss - 1)).toBeLessThan(1e-3);
  });
});
