// Large products are planned onto tensor cores and their kernels are valid WGSL. Dawn's null backend has the features but
// runs nothing; scripts/check-webgpu.ts compares the same cases with the reference on a GPU.

import { beforeAll, describe, expect, it } from 'vitest';
import { trace } from '../../../graph/trace.ts';
import { largeProductCases } from '../../cases/large-products.ts';
import { assemble } from '../assemble.ts';
import { operandAt, storedBytes } from '../buffer.ts';
import { bufferUsage } from '../constants.ts';
import type { GpuTraits } from '../device.ts';
import { findGpu, keepAlive } from '../gpu.ts';
import { encodeTensorProduct, planTensorProduct, tensorScratchBytes } from './matmul-tensor-cores.ts';

const traits = (tensorCores: GpuTraits['tensorCores']): GpuTraits => ({
  features: new Set(['shader-f16', 'subgroups', 'chromium-experimental-subgroup-matrix']),
  bufferBytes: 2 ** 30,
  workgroupBytes: 49_152,
  workgroupThreads: 1024,
  subgroupMinSize: 32,
  subgroupMaxSize: 32,
  subgroupMatrices: [],
  tensorCores,
});

let device: GPUDevice;
beforeAll(async () => {
  const gpu = await findGpu({ backend: 'null' });
  const adapter = keepAlive(await gpu.requestAdapter()) as GPUAdapter;
  device = keepAlive(
    await adapter.requestDevice({
      requiredFeatures: ['shader-f16', 'subgroups', 'chromium-experimental-subgroup-matrix'] as GPUFeatureName[],
    }),
  );
});

const nodeOf = (build: (typeof largeProductCases)[number]['build']) => {
  const node = trace(build).nodes.find(({ op }) => op.name === 'matmul');
  if (!node) throw new Error('the case has no product');
  return node;
};

describe('products on tensor cores', () => {
  it.each(largeProductCases.map((c) => [c.name, c] as const))('%s', async (_, { build, rounds }) => {
    const node = nodeOf(build);
    expect(planTensorProduct(node, traits('off'))).toBeUndefined();
    expect(planTensorProduct(node, traits('exact')) === undefined).toBe(rounds);
    const gpu = traits('f16');
    const plan = planTensorProduct(node, gpu);
    if (!plan) throw new Error('the product is not planned');
    const take = (bytes: number) => device.createBuffer({ size: bytes, usage: bufferUsage.storage });
    const operand = (value: (typeof node.inputs)[number]) => operandAt(value.type, take(storedBytes(value.type)), 0);
    const bytes = tensorScratchBytes(plan);
    const commands = encodeTensorProduct(
      {
        node,
        inputs: node.inputs.map(operand),
        outputs: node.outputs.map(operand),
        gpu,
        scratch: bytes > 0 ? { buffer: take(bytes), offset: 0, bytes } : undefined,
      },
      plan,
    );
    for (const command of commands) {
      device.pushErrorScope('validation');
      const module = device.createShaderModule({ code: assemble('y', command).text });
      const { messages } = await module.getCompilationInfo();
      await device.popErrorScope();
      expect(messages.map(({ lineNum, message }) => `${lineNum}: ${message}`)).toEqual([]);
    }
  });

  it('cuts K where C has few tiles', () => {
    const found = largeProductCases.find(({ name }) => name.endsWith('in pieces of K'));
    expect(planTensorProduct(nodeOf(found!.build), traits('f16'))?.splits).toBeGreaterThan(1);
  });
});
