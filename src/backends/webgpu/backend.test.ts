// Every op that has a kernel agrees with the reference, with bounds checks on.

import { afterAll, describe, expect, it } from 'vitest';
import { createTestBackend, missingGpu } from '../../../test/support/software-gpu.ts';
import { liveNodes } from '../../graph/live-nodes.ts';
import { trace } from '../../graph/trace.ts';
import { differences, type OpCase, type Outputs, runOpCase } from '../op-case.ts';
import { opCases } from '../op-cases.ts';
import { createReferenceBackend } from '../reference/reference-backend.ts';
import type { WebgpuBackend } from './backend.ts';
import { hasKernels, webgpuTolerance } from './cases.ts';
import { splitKernels } from './kernels/split.ts';
import { kernels } from './kernels.ts';

/** Bit patterns of all outputs, to compare runs exactly. */
const bits = (results: readonly Outputs[]) =>
  results.map((outputs) => [...outputs].map(([name, { data }]) => [name, new Uint32Array(data.buffer).join()]));

/** The case with every run twice: states aside, the second must give the same bits. */
const replayed = (opCase: OpCase): OpCase => ({ ...opCase, runs: opCase.runs.flatMap((run) => [run, run]) });

const missing = missingGpu();
const backend = missing ? undefined : await createTestBackend();
const able = opCases.filter((opCase) => !backend || hasKernels(opCase, backend.gpu));
const unable = opCases.filter((opCase) => !able.includes(opCase));

describe.skipIf(!backend)(`the webgpu backend${missing ? ` (${missing})` : ''}`, () => {
  const reference = createReferenceBackend();
  const gpu = backend as WebgpuBackend;
  afterAll(() => {
    expect(gpu.usedBytes).toBe(0);
    gpu.dispose();
  });

  it.each(able.map((opCase) => [opCase.name, opCase] as const))('agrees with the reference: %s', async (_, opCase) => {
    const expected = await runOpCase(reference, opCase);
    const found = await runOpCase(gpu, opCase.accumulates ? opCase : replayed(opCase));
    const first = opCase.accumulates ? found : found.filter((_, i) => i % 2 === 0);
    const second = opCase.accumulates ? await runOpCase(gpu, opCase) : found.filter((_, i) => i % 2 === 1);
    expect(differences(first, expected, webgpuTolerance(opCase))).toEqual([]);
    expect(bits(second)).toEqual(bits(first));
  });

  it.each(unable.map((opCase) => [opCase.name, opCase] as const))(
    'has no kernel and says so: %s',
    async (_, { build }) => {
      await expect(gpu.compile(trace(build), { params: new Map() })).rejects.toThrow(
        'the webgpu backend has no kernel for',
      );
    },
  );

  it('has a case for every kernel', () => {
    const met = new Set(able.flatMap(({ build }) => liveNodes(trace(build)).map((node) => node.op.name)));
    const split = Object.keys(splitKernels); // split.test.ts
    expect(Object.keys(kernels).filter((name) => !met.has(name))).toEqual(split);
  });
});
