// Products read operands along their other axis: on tensor cores those of 16 bits, everywhere dense ones.

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { tensorCoreTraits } from '../../../test/support/null-gpu.ts';
import { createTestBackend, missingGpu } from '../../../test/support/software-gpu.ts';
import { liveNodes } from '../../graph/live-nodes.ts';
import { transpose } from '../../graph/ops/layout.ts';
import { matmul } from '../../graph/ops/matmul.ts';
import { trace } from '../../graph/trace.ts';
import { f32 } from '../../graph/value-type.ts';
import { dense } from '../cases/common.ts';
import { largeProductCases } from '../cases/large-products.ts';
import { differences, runOpCase } from '../op-case.ts';
import { createReferenceBackend } from '../reference/reference-backend.ts';
import type { WebgpuBackend } from './backend.ts';
import { readTransposed } from './read-transposed.ts';

const swap = (v: Parameters<typeof transpose>[0]) => transpose(v, [1, 0]);
const ops = (graph: ReturnType<typeof trace>) => liveNodes(graph).map(({ op }) => op.name);

describe('readTransposed', () => {
  const layer = trace(largeProductCases.find(({ name }) => name.includes('layer'))!.build);

  it('leaves out the transposed copies of 16-bit operands on tensor cores', () => {
    const found = readTransposed(layer, tensorCoreTraits('exact'));
    expect(ops(found).toSorted()).toEqual(['matmul', 'matmul', 'matmul', 'quantize', 'quantize', 'quantize']);
    expect(liveNodes(found).map(({ attributes }) => attributes.transposeA)).toContain(true);
  });

  it('keeps them where the product runs without tensor cores', () => {
    expect(readTransposed(layer, tensorCoreTraits('off'))).toBe(layer);
  });

  it('keeps a copy that was made before its source changed', async () => {
    const { appendUpdates } = await import('../../nn/optimizers.ts');
    const graph = trace((g) => {
      const weight = g.state('w', f32([3, 4]));
      const before = swap(weight);
      const gradient = g.input('gradient', f32([3, 4]));
      const schedule = {
        learningRate: g.input('learningRate', f32([1])),
        step: g.input('step', { dtype: 'i32', shape: [1] }),
      };
      appendUpdates(g, [{ name: 'w', weight, gradient }], { kind: 'adamw' }, schedule);
      g.output('y', matmul(before, gradient));
    });
    expect(ops(readTransposed(graph, tensorCoreTraits('off')))).toContain('transpose');
  });
});

const missing = missingGpu();
describe.skipIf(missing)(`dense operands on a software GPU${missing ? ` (${missing})` : ''}`, () => {
  let backend: WebgpuBackend;
  beforeAll(async () => {
    backend = await createTestBackend();
  });
  afterAll(() => backend?.dispose());

  it.each([
    ['a', (a, b) => matmul(swap(a), b)],
    ['b', (a, b) => matmul(a, swap(b), { transposeA: true, transposeB: true })],
  ] satisfies [
    string,
    (a: Parameters<typeof matmul>[0], b: Parameters<typeof matmul>[0]) => ReturnType<typeof matmul>,
  ][])('transposed %s', async (_, body) => {
    const shapes = [
      [37, 5],
      [37, 6],
    ];
    const opCase = dense('products of transposed values', shapes, 2e-6, body);
    expect(ops(readTransposed(trace(opCase.build), tensorCoreTraits('off')))).toEqual(['matmul']);
    const expected = await runOpCase(createReferenceBackend(), opCase);
    expect(differences(await runOpCase(backend, opCase), expected, opCase.tolerance)).toEqual([]);
  });
});
