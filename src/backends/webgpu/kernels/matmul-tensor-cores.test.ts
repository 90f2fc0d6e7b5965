// Large products are planned onto tensor cores and their kernels are valid WGSL. Dawn's null backend has the features but
// runs nothing; scripts/check-webgpu.ts compares the same cases with the reference on a GPU.

import { beforeAll, describe, expect, it } from 'vitest';
import { knownFragments, openNullDevice, tensorCoreTraits, wgslProblems } from '../../../../test/support/null-gpu.ts';
import type { Node } from '../../../graph/graph.ts';
import { trace } from '../../../graph/trace.ts';
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

  it('cuts K where C has few tiles', () => {
    const found = largeProductCases.find(({ name }) => name.endsWith('in pieces of K'));
    expect(planTensorProduct(nodesOf(found!, 'f16')[0], tensorCoreTraits('f16'))?.splits).toBeGreaterThan(1);
  });
});
