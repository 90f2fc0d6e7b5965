// Large products are planned onto tensor cores and their kernels are valid WGSL. Dawn's null backend has the features but
// runs nothing; emulated-products.test.ts and scripts/check-webgpu.ts compare the same cases with the reference.

import { beforeAll, describe, expect, it } from 'vitest';
import { knownFragments, openNullDevice, tensorCoreTraits, wgslProblems } from '../../../../test/support/null-gpu.ts';
import { parseFormat } from '../../../formats/registry.ts';
import type { Node } from '../../../graph/graph.ts';
import { matmul } from '../../../graph/ops/matmul.ts';
import { trace } from '../../../graph/trace.ts';
import { f32, packed } from '../../../graph/value-type.ts';
import { largeProductCases } from '../../cases/large-products.ts';
import { assemble } from '../assemble.ts';
import { operandAt } from '../buffer.ts';
import { bufferUsage } from '../constants.ts';
import type { GpuTraits } from '../device.ts';
import type { Command } from '../kernel.ts';
import { kernels } from '../kernels.ts';
import { readTransposed } from '../read-transposed.ts';
import { shareBounds } from '../share-bounds.ts';
import { subgroupFeatures } from './matmul-subgroup.ts';
import { planTensorProduct } from './matmul-tensor-cores.ts';

let device: GPUDevice;
beforeAll(async () => {
  device = await openNullDevice();
});

/** The products and losses of a case, as they are run in a mode. */
const nodesOf = ({ build }: (typeof largeProductCases)[number], mode: GpuTraits['tensorCores']) =>
  shareBounds(readTransposed(trace(build), tensorCoreTraits(mode)), tensorCoreTraits(mode)).nodes.filter(({ op }) =>
    /^(matmul|crossEntropy)/.test(op.name),
  );

/** The commands of a node over memory of its own. */
function commandsOf(node: Node, gpu: GpuTraits): readonly Command[] {
  // nothing runs, so that a buffer's size does not matter
  const take = () => device.createBuffer({ size: 256, usage: bufferUsage.storage });
  const operand = ({ type }: Node['inputs'][number]) => operandAt(type, take(), 0);
  const kernel = kernels[node.op.name];
  const bytes = kernel.scratchBytes?.(node, gpu) ?? 0;
  const scratch = bytes > 0 ? { buffer: take(), offset: 0, bytes } : undefined;
  return kernel.encode({ node, gpu, scratch, inputs: node.inputs.map(operand), outputs: node.outputs.map(operand) });
}

describe('products on tensor cores', () => {
  it.each(largeProductCases.map((c) => [c.name, c] as const))('%s', async (_, found) => {
    for (const mode of ['off', 'exact', 'f16'] as const)
      for (const node of nodesOf(found, mode)) {
        const onTensorCores = commandsOf(node, tensorCoreTraits(mode)).some(({ enable = [] }) =>
          enable.includes(subgroupFeatures[2]),
        );
        expect(onTensorCores).toBe(mode === 'f16' || (mode === 'exact' && !found.rounds));
      }
    for (const node of nodesOf(found, 'f16'))
      for (const fragments of knownFragments)
        for (const command of commandsOf(node, tensorCoreTraits('f16', 49_152, fragments)))
          expect(await wgslProblems(device, assemble('y', command).text)).toEqual([]);
  });

  it('decodes a packed weight first beside many rows, unless that takes much memory', () => {
    const decoded = (M: number, N: number, K: number, format: string) => {
      const graph = trace((g) => {
        const [x, w] = [g.input('x', f32([M, K])), g.param('w', packed([N, K], parseFormat(format)))];
        g.output('y', matmul(x, w, { transposeB: true }));
      });
      return planTensorProduct(graph.nodes[0], tensorCoreTraits('f16'))?.decoded;
    };
    expect(decoded(2048, 1024, 1024, 'mxfp4')).toBe('b');
    expect(decoded(2047, 1024, 1024, 'mxfp4')).toBeUndefined();
    expect(decoded(2048, 1024, 1024, 'int4-g32')).toBeUndefined();
    expect(decoded(2048, 2 ** 15, 4096, 'mxfp4')).toBe('b');
    expect(decoded(2048, 2 ** 15 + 128, 4096, 'mxfp4')).toBeUndefined();
  });

  it('cuts K where C has few tiles', () => {
    const found = largeProductCases.find(({ name }) => name.endsWith('in pieces of K'));
    expect(planTensorProduct(nodesOf(found!, 'f16')[0], tensorCoreTraits('f16'))?.splits).toBeGreaterThan(1);
  });
});
