// On a GPU every operand that a rotating recipe rounds is made by one kernel from what the graph holds anyway.

import { expect, it } from 'vitest';
import type { GpuTraits } from '../../backends/webgpu/device.ts';
import { fuseQuantize } from '../../backends/webgpu/fuse-quantize.ts';
import { fusedQuantizeOp } from '../../backends/webgpu/fused-quantize-op.ts';
import { gradients } from '../../graph/differentiate.ts';
import { trace } from '../../graph/trace.ts';
import { f32 } from '../../graph/value-type.ts';
import { longestBlock, recipeProducts } from './products.ts';
import { type RecipeName, recipes } from './registry.ts';

/** Nodes of a layer's three products: how many are fused, and which ops are left between operands. */
function layer(name: RecipeName) {
  const [T, k, n] = [128, 256, 384];
  const recipe = recipes[name];
  const options = { seed: 1, longest: longestBlock([recipe], [T, k, n]) };
  const { products } = recipeProducts(['layer'], () => recipe, options);
  const graph = trace((g) => {
    const [x, w] = [g.input('x', f32([T, k])), g.input('w', f32([n, k]))];
    const y = products(g)!('layer')!(x, w);
    const [gx, gw] = gradients(g, y, [x, w], { seed: g.input('e', f32([T, n])) });
    for (const [part, value] of Object.entries({ y, gx, gw })) g.output(part, value);
  });
  const { nodes } = fuseQuantize(graph, { workgroupBytes: 32_768 } as GpuTraits);
  const count = (op: string) => nodes.filter((node) => node.op.name === op).length;
  return {
    fused: nodes.filter(({ op }) => (op as object) === fusedQuantizeOp).length,
    quantize: count('quantize'),
    transpose: count('transpose'),
    dequantize: count('dequantize'),
    hadamard: count('hadamard'),
  };
}

it.each<[RecipeName, fused: number, turnedBack: number]>([
  ['quartet', 6, 2],
  ['quartet-nearest', 6, 2],
  ['quartet-signs-last', 6, 2],
  ['quartet-2', 4, 0],
  ['quartet-2-h32', 4, 0],
  ['backward-quest', 4, 0],
])('%s', (name, fused, turnedBack) => {
  expect(layer(name)).toEqual({ fused, quantize: 6, transpose: 0, dequantize: 0, hadamard: turnedBack });
});
