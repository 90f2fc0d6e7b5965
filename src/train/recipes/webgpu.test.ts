// Recipes' steps on WebGPU against the WASM backend: codes are equal bit for bit, stochastic ones too, so results
// differ by the order of sums alone. A code that was rounded to the other side would show as 1e-3 or more.

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createTestBackend, missingGpu } from '../../../test/support/software-gpu.ts';
import type { Backend } from '../../backends/backend.ts';
import { gaussian } from '../../backends/op-case.ts';
import { createWasmBackend } from '../../backends/wasm/backend.ts';
import { gradients } from '../../graph/differentiate.ts';
import { trace } from '../../graph/trace.ts';
import { f32 } from '../../graph/value-type.ts';
import type { LinearRecipe } from './linear-recipe.ts';
import { longestBlock, recipeProducts } from './products.ts';
import { recipes } from './registry.ts';

const [T, k, n] = [64, 128, 64];
/** One of each kind: compiling kernels takes a software GPU seconds. */
const names = [
  ...(['bf16', 'mxfp8', 'int8', 'quartet', 'quartet-2-h32', 'fp4-all-the-way'] as const),
  ...(['nvfp4-nvidia', 'fp4-dge-occ', 'halo-2'] as const),
];
const missing = missingGpu();
const data = {
  x: gaussian(1, [T, k]).map((v, i) => v * ((i % k) % 37 === 0 ? 9 : 1)),
  w: gaussian(2, [n, k], 0.08),
  e: gaussian(3, [T, n], 1e-4).map((v, i) => v * (Math.floor(i / n) % 29 === 0 ? 12 : 1)),
};

/** y, gx and gw for two batches, or why the backend cannot. */
async function steps(backend: Backend, recipe: LinearRecipe): Promise<Record<string, Float32Array> | string> {
  const longest = longestBlock([recipe], [T, k, n]);
  const { products, inputs } = recipeProducts(['layer'], () => recipe, { seed: 4, longest });
  const graph = trace((g) => {
    const [x, w] = [g.input('x', f32([T, k])), g.input('w', f32([n, k]))];
    const y = products(g)?.('layer')?.(x, w) ?? x;
    const [gx, gw] = gradients(g, y, [x, w], { seed: g.input('e', f32([T, n])) });
    for (const [name, value] of Object.entries({ y, gx, gw })) g.output(name, value);
  });
  const run = await Promise.resolve(backend.compile(graph, { params: new Map() })).catch((error: Error) => error);
  if (run instanceof Error) return run.message;
  for (const [name, values] of Object.entries(data)) run.write(name, values);
  const found: Record<string, Float32Array> = {};
  for (const batch of [0, 70_000]) {
    for (const [name, values] of inputs(batch)) if (graph.inputs.has(name)) run.write(name, values);
    await run.run();
    for (const name of graph.outputs.keys())
      found[`${name} of batch ${batch}`] = Float32Array.from((await run.read(name)).data);
  }
  run.dispose();
  return found;
}

describe.skipIf(missing)(`recipes on the webgpu backend${missing ? ` (${missing})` : ''}`, () => {
  let [gpu, wasm]: Backend[] = [];
  beforeAll(async () => {
    gpu = await createTestBackend();
    wasm = await createWasmBackend({ threads: 2 });
  });
  afterAll(() => {
    gpu.dispose();
    wasm.dispose();
  });

  it.each(names)('%s agrees with the WASM backend, or the backend says which kernel it lacks', async (name) => {
    const found = await steps(gpu, recipes[name]);
    if (typeof found === 'string') {
      expect(found).toMatch(/^\w+: the webgpu backend (has no kernel|cannot)/);
      return;
    }
    const expected = (await steps(wasm, recipes[name])) as Record<string, Float32Array>;
    for (const [part, values] of Object.entries(expected)) {
      const largest = values.reduce((most, v) => Math.max(most, Math.abs(v)), 0);
      const worst = values.reduce((most, v, i) => Math.max(most, Math.abs(v - found[part][i])), 0);
      expect(worst / largest, part).toBeLessThan(3e-6);
    }
  });
});
