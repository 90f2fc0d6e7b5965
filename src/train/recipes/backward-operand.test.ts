// Which backward products run on codes, and on those of the forward product; values are compared in recipes.test.ts.

import { expect, it } from 'vitest';
import { gaussian } from '../../backends/op-case.ts';
import { createReferenceBackend } from '../../backends/reference/reference-backend.ts';
import { parseFormat } from '../../formats/registry.ts';
import { gradients } from '../../graph/differentiate.ts';
import { liveNodes } from '../../graph/live-nodes.ts';
import { transpose } from '../../graph/ops/layout.ts';
import { dequantize, quantize } from '../../graph/ops/quantize.ts';
import { transposePacked } from '../../graph/ops/transpose-packed.ts';
import { trace } from '../../graph/trace.ts';
import { f32 } from '../../graph/value-type.ts';
import type { LinearRecipe } from './linear-recipe.ts';
import { recipeProducts } from './products.ts';
import { type RecipeName, recipes } from './registry.ts';

function nodesOf(name: RecipeName) {
  const recipe: LinearRecipe = recipes[name];
  const { products } = recipeProducts(['layer'], () => recipe, { seed: 0, longest: 128 });
  const graph = trace((g) => {
    const [x, w] = [g.input('x', f32([128, 128])), g.input('w', f32([128, 128]))];
    const y = products(g)!('layer')!(x, w);
    const [gx, gw] = gradients(g, y, [x, w], { seed: g.input('e', f32([128, 128])) });
    for (const [label, value] of Object.entries({ y, gx, gw })) g.output(label, value);
  });
  return liveNodes(graph);
}
const count = (nodes: ReturnType<typeof nodesOf>, op: string) => nodes.filter((node) => node.op.name === op).length;

// quantizations: x, w, and what the two backward products round anew
it.each<[RecipeName, quantizations: number, transposed: number]>([
  ['halo-0', 3, 3],
  ['halo-1', 3, 3],
  ['halo-2', 4, 2],
  ['bf16', 3, 3],
  ['fp8-tensor', 3, 3],
  ['fp8-tiles', 5, 1],
  ['nvfp4-nvidia', 5, 1],
  ['quartet', 6, 0],
  ['fp4-all-the-way', 6, 0],
])('%s multiplies codes in all three products, transposing those that it has', (name, quantizations, transposed) => {
  const nodes = nodesOf(name);
  const products = nodes.filter(({ op }) => op.name === 'matmul');
  expect(products.map(({ inputs }) => inputs.map(({ type }) => type.dtype))).toEqual(
    Array(3).fill(['packed', 'packed']),
  );
  expect([count(nodes, 'quantize'), count(nodes, 'transposePacked')]).toEqual([quantizations, transposed]);
  // only re-quantization from other blocks decodes
  if (name !== 'quartet') expect(count(nodes, 'dequantize')).toBe(0);
});

it('square blocks look alike from both sides: the codes of a transpose are the transposed codes, of 1×16 they are not', async () => {
  const differences = async (format: string) => {
    const graph = trace((g) => {
      const x = g.input('x', f32([48, 80]));
      const codes = quantize(x, parseFormat(format));
      const moved = format === 'nvfp4' ? transpose(dequantize(codes), [1, 0]) : dequantize(transposePacked(codes));
      g.output('moved', moved);
      g.output('rounded', dequantize(quantize(transpose(x, [1, 0]), parseFormat(format))));
    });
    const run = await createReferenceBackend().compile(graph, { params: new Map() });
    run.write('x', gaussian(3, [48, 80]));
    await run.run();
    const [moved, rounded] = [(await run.read('moved')).data, (await run.read('rounded')).data];
    return Array.from(moved).filter((v, i) => v !== rounded[i]).length;
  };
  for (const format of ['nvfp4-2d', 'int8-tensor', 'fp8-e4m3-tensor', 'bf16'])
    expect(await differences(format)).toBe(0);
  expect(await differences('nvfp4')).toBeGreaterThan(300);
});
