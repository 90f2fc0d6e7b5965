// Every op that has a kernel agrees with the reference, with bounds checks on.

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createTestBackend, missingGpu } from '../../../test/support/software-gpu.ts';
import type { Graph } from '../../graph/graph.ts';
import { liveNodes } from '../../graph/live-nodes.ts';
import { trace } from '../../graph/trace.ts';
import { differences, type OpCase, type Outputs, runOpCase } from '../op-case.ts';
import { opCases } from '../op-cases.ts';
import { createReferenceBackend } from '../reference/reference-backend.ts';
import type { WebgpuBackend } from './backend.ts';
import { kernels } from './kernels.ts';

/**
 * Where WGSL promises less than a case asks for: its division is within 2.5 ULP (3e-7), not correctly rounded
 * (https://www.w3.org/TR/WGSL/#floating-point-accuracy).
 */
const looser = (opCase: OpCase): OpCase['tolerance'] => {
  if (opCase.tolerance === 'exact') return 'exact';
  return /^div /.test(opCase.name) ? Math.max(opCase.tolerance, 3e-7) : opCase.tolerance;
};

/** Bit patterns of all outputs, to compare runs exactly. */
const bits = (results: readonly Outputs[]) =>
  results.map((outputs) => [...outputs].map(([name, { data }]) => [name, new Uint32Array(data.buffer).join()]));

/** The case with every run twice: states aside, the second must give the same bits. */
const replayed = (opCase: OpCase): OpCase => ({ ...opCase, runs: opCase.runs.flatMap((run) => [run, run]) });

const missing = missingGpu();

describe.skipIf(missing)(`every op with a kernel agrees with the reference${missing ? ` (${missing})` : ''}`, () => {
  const reference = createReferenceBackend();
  let backend: WebgpuBackend;
  beforeAll(async () => {
    backend = await createTestBackend();
  });
  afterAll(() => {
    expect(backend.usedBytes).toBe(0);
    backend.dispose();
  });

  const runs = (graph: Graph) =>
    liveNodes(graph).every((node) => {
      const kernel = kernels[node.op.name];
      return kernel && !kernel.unsupported?.(node, undefined as never);
    });
  const supported = opCases.filter((opCase) => runs(trace(opCase.build)));

  it('covers cases of every kernel', () => {
    const seen = new Set(supported.flatMap((opCase) => trace(opCase.build).nodes.map((node) => node.op.name)));
    expect(Object.keys(kernels).filter((name) => !seen.has(name))).toEqual([]);
  });

  it.each(supported.map((opCase) => [opCase.name, opCase] as const))('%s', async (_, opCase) => {
    const expected = await runOpCase(reference, opCase);
    const found = await runOpCase(backend, opCase.accumulates ? opCase : replayed(opCase));
    const first = opCase.accumulates ? found : found.filter((_, i) => i % 2 === 0);
    const second = opCase.accumulates ? await runOpCase(backend, opCase) : found.filter((_, i) => i % 2 === 1);
    expect(differences(first, expected, looser(opCase))).toEqual([]);
    expect(bits(second)).toEqual(bits(first));
  });
});
