// Several ops in one graph: what single-op cases cannot show is memory that is shared between values, results that
// overwrite operands, and runs that follow one another.

import { parseFormat } from '../../formats/registry.ts';
import type { Value } from '../../graph/graph.ts';
import { affine } from '../../graph/ops/affine.ts';
import { add, mul } from '../../graph/ops/arithmetic.ts';
import { attention } from '../../graph/ops/attention.ts';
import { reshape, slice } from '../../graph/ops/layout.ts';
import { matmul } from '../../graph/ops/matmul.ts';
import { rmsNorm } from '../../graph/ops/norm.ts';
import { sum } from '../../graph/ops/reduce.ts';
import { rope } from '../../graph/ops/rope.ts';
import { softmax } from '../../graph/ops/softmax.ts';
import { swiglu } from '../../graph/ops/swiglu.ts';
import type { GraphBuilder } from '../../graph/trace.ts';
import { f32, i32, packed } from '../../graph/value-type.ts';
import { type AnyTensor, tensorF32 } from '../../tensor/tensor.ts';
import { gaussian, type OpCase } from '../op-case.ts';
import { packedTensor } from './common.ts';

const [B, T, C, H, G, D, F] = [2, 5, 64, 4, 2, 16, 96];

/** Weights [N, K] of one layer by name. */
const projections: Readonly<Record<string, readonly [number, number]>> = {
  q: [H * D, C],
  k: [G * D, C],
  v: [G * D, C],
  o: [C, H * D],
  gate: [F, C],
  up: [F, C],
  down: [C, F],
};

/** Two layers of a Llama-like decoder: residuals outlive everything in between. */
function buildBlocks(g: GraphBuilder, weight: string | undefined): void {
  const positions = g.input('positions', i32([B, T]));
  const frequencies = g.constant(tensorF32([D / 2], gaussian(9, [D / 2]).map(Math.abs)));
  const ones = g.constant(tensorF32([C], new Float32Array(C).fill(1)));
  const linear = (x: Value, name: string) => {
    const shape = projections[name.split('.')[1]];
    const w = g.param(name, weight ? packed(shape, parseFormat(weight)) : f32(shape));
    return matmul(x, w, { transposeB: true });
  };
  let h = g.input('x', f32([B, T, C]));
  for (const layer of ['0', '1']) {
    const x = rmsNorm(h, ones, { epsilon: 1e-6 });
    const heads = (name: string, n: number) => reshape(linear(x, `${layer}.${name}`), [B, T, n, D]);
    const turn = (v: Value) => rope(v, positions, frequencies, { style: 'half' });
    const mixed = attention(turn(heads('q', H)), turn(heads('k', G)), heads('v', G), { causal: true });
    h = add(h, linear(reshape(mixed, [B, T, H * D]), `${layer}.o`));
    const y = rmsNorm(h, ones, { epsilon: 1e-6 });
    h = add(h, linear(swiglu(linear(y, `${layer}.gate`), linear(y, `${layer}.up`)), `${layer}.down`));
    g.output(`layer ${layer}`, h);
  }
}

function blocksCase(weight?: string): OpCase {
  const params: Record<string, AnyTensor> = {};
  for (const layer of ['0', '1']) {
    Object.entries(projections).forEach(([name, shape], i) => {
      const seed = 100 * Number(layer) + i;
      params[`${layer}.${name}`] = weight
        ? packedTensor(seed, shape, weight)
        : tensorF32(shape, gaussian(seed, shape, 0.2));
    });
  }
  return {
    name: `decoder blocks, weights ${weight ?? 'f32'}`,
    // Activations stay f32: quantizing them would turn rounding differences into whole steps.
    tolerance: 2e-5,
    build: (g) => buildBlocks(g, weight),
    params,
    runs: [1, 2].map((seed) => ({
      x: gaussian(seed, [B, T, C]),
      positions: Int32Array.from({ length: B * T }, (_, i) => (i % T) * seed),
    })),
  };
}

export const compositeCases: OpCase[] = [
  blocksCase(),
  blocksCase('bf16'),
  blocksCase('mxfp4'),
  {
    name: 'results over operands, broadcasts and views',
    tolerance: 2e-6,
    build(g) {
      const x = g.input('x', f32([4, 6]));
      const doubled = affine(x, { scale: 2 });
      const total = sum(doubled, { axes: [1], keepDims: true });
      const shifted = add(doubled, total); // total [4, 1] dies here and must not be overwritten
      const outer = mul(total, reshape(slice(shifted, 1, 0, 1), [1, 4]));
      const chain = softmax(affine(affine(outer, { scale: 0.01 }), { offset: 1 }));
      g.output('chain', add(chain, chain));
      g.output('shifted', reshape(shifted, [24]));
    },
    runs: [{ x: gaussian(1, [24]) }, { x: gaussian(2, [24]) }],
  },
];
