// Large attention runs on tensor cores where it may round, and the kernels are valid WGSL. Dawn's null backend has the
// features but runs nothing; scripts/check-webgpu.ts compares the same cases with the reference on a GPU.

import { beforeAll, describe, expect, it } from 'vitest';
import { knownFragments, openNullDevice, tensorCoreTraits, wgslProblems } from '../../../../test/support/null-gpu.ts';
import { attention } from '../../../graph/ops/attention.ts';
import { trace } from '../../../graph/trace.ts';
import { f32, i32 } from '../../../graph/value-type.ts';
import { largeAttentionCases } from '../../cases/large-attention.ts';
import type { OpCase } from '../../op-case.ts';
import { assemble } from '../assemble.ts';
import { operandAt, storedBytes } from '../buffer.ts';
import { bufferUsage } from '../constants.ts';
import type { GpuTraits } from '../device.ts';
import type { Command } from '../kernel.ts';
import { kernels } from '../kernels.ts';

let device: GPUDevice;
beforeAll(async () => {
  device = await openNullDevice();
});

const ops = ['attention', 'attentionBackward'] as const;

function commandsOf(build: OpCase['build'], op: (typeof ops)[number], gpu: GpuTraits): readonly Command[] {
  const node = trace(build).nodes.find((n) => n.op.name === op);
  if (!node) throw new Error(`the case has no ${op}`);
  const take = (bytes: number) => device.createBuffer({ size: bytes, usage: bufferUsage.storage });
  const operand = (value: (typeof node.inputs)[number]) => operandAt(value.type, take(storedBytes(value.type)), 0);
  const bytes = kernels[op].scratchBytes?.(node, gpu) ?? 0;
  return kernels[op].encode({
    node,
    inputs: node.inputs.map(operand),
    outputs: node.outputs.map(operand),
    gpu,
    scratch: bytes > 0 ? { buffer: take(bytes), offset: 0, bytes } : undefined,
  });
}

const onTensorCores = (commands: readonly Command[]) =>
  commands.some(({ enable = [] }) => enable.includes('chromium_experimental_subgroup_matrix'));

describe('attention on tensor cores', () => {
  it.each(largeAttentionCases.map((c) => [c.name, c] as const))('%s', async (_, { build }) => {
    for (const op of ops) {
      expect(onTensorCores(commandsOf(build, op, tensorCoreTraits('off')))).toBe(false);
      expect(onTensorCores(commandsOf(build, op, tensorCoreTraits('exact')))).toBe(false);
      const commands = commandsOf(build, op, tensorCoreTraits('f16'));
      expect(onTensorCores(commands)).toBe(true);
      const others = knownFragments
        .slice(1)
        .flatMap((fragments) => commandsOf(build, op, tensorCoreTraits('f16', 49_152, fragments)));
      for (const command of others) expect(await wgslProblems(device, assemble('y', command).text)).toEqual([]);
      for (const command of commands) {
        device.pushErrorScope('validation');
        const module = device.createShaderModule({ code: assemble('y', command).text });
        const { messages } = await module.getCompilationInfo();
        if (messages.length === 0)
          device.createComputePipeline({ layout: 'auto', compute: { module, entryPoint: 'main' } });
        const problem = await device.popErrorScope();
        expect(messages.map(({ lineNum, message }) => `${lineNum}: ${message}`)).toEqual([]);
        // the null device has less workgroup memory than GPUs with tensor cores
        const used = problem?.message.match(/total use of workgroup storage \((\d+) bytes\)/)?.[1];
        if (used === undefined) expect(problem?.message).toBeUndefined();
        else expect(Number(used)).toBeLessThanOrEqual(49_152);
      }
    }
  });

  it('fits less workgroup memory', () => {
    for (const { build } of largeAttentionCases)
      for (const op of ops) expect(onTensorCores(commandsOf(build, op, tensorCoreTraits('f16', 32_768)))).toBe(true);
  });

  it('leaves a cache position and odd head dimensions to the other kernels', () => {
    const build = (D: number, cached: boolean) => (g: Parameters<OpCase['build']>[0]) => {
      const [q, k, v] = 'qkv'.split('').map((name) => g.input(name, f32([2, 128, 4, D])));
      const start = cached ? { start: g.input('start', i32([1])) } : {};
      g.output('y', attention(q, k, v, { causal: true, ...start }));
    };
    const runs = (D: number, cached: boolean) =>
      onTensorCores(commandsOf(build(D, cached), 'attention', tensorCoreTraits('f16')));
    expect([runs(64, false), runs(64, true), runs(40, false), runs(144, false)]).toEqual([true, false, false, false]);
  });
});
