// Kernels on shapes that take several tiles, parts and vectors, which the shared cases are too small for.

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createTestBackend, missingGpu } from '../../../test/support/software-gpu.ts';
import { gradients } from '../../graph/differentiate.ts';
import type { Value } from '../../graph/graph.ts';
import { add, mul, sub } from '../../graph/ops/arithmetic.ts';
import { transpose } from '../../graph/ops/layout.ts';
import { layerNorm, rmsNorm } from '../../graph/ops/norm.ts';
import { max, mean, sum } from '../../graph/ops/reduce.ts';
import { swiglu } from '../../graph/ops/swiglu.ts';
import { f32 } from '../../graph/value-type.ts';
import type { Shape } from '../../tensor/shape.ts';
import { differences, gaussian, type OpCase, runOpCase } from '../op-case.ts';
import { createReferenceBackend } from '../reference/reference-backend.ts';
import type { WebgpuBackend } from './backend.ts';

function wide(
  name: string,
  tolerance: OpCase['tolerance'],
  shapes: readonly Shape[],
  body: (...values: Value[]) => Value,
): OpCase {
  return {
    name,
    tolerance,
    build: (g) => void g.output('y', body(...shapes.map((shape, i) => g.input('abc'[i], f32(shape))))),
    runs: [Object.fromEntries(shapes.map((shape, i) => ['abc'[i], gaussian(i + 1, shape)]))],
  };
}

const epsilon = 1e-5;
const cases: OpCase[] = [
  wide('transpose of a matrix', 'exact', [[70, 45]], (a) => transpose(a, [1, 0])),
  wide('transpose of matrices', 'exact', [[3, 33, 64]], (a) => transpose(a, [0, 2, 1])),
  wide('transpose, the last dimension first', 'exact', [[5, 9, 40]], (a) => transpose(a, [2, 0, 1])),
  wide('transpose, all dimensions turned', 'exact', [[9, 7, 35]], (a) => transpose(a, [2, 1, 0])),
  wide('transpose, the last dimension stays', 'exact', [[9, 7, 35]], (a) => transpose(a, [1, 0, 2])),
  ...[
    [[6, 8], [8]],
    [
      [6, 8],
      [6, 1],
    ],
    [
      [5, 3, 12],
      [5, 1, 12],
    ],
    [[6, 7], [7]],
    [
      [3, 1, 8],
      [2, 8],
    ],
    [[6, 8], [1]],
    [[1037], []],
    [
      [4, 1],
      [1, 4],
    ],
  ].map(([a, b]) =>
    wide(`arithmetic of ${JSON.stringify(a)} and ${JSON.stringify(b)}`, 'exact', [a, b], (x, y) =>
      add(mul(x, y), sub(y, x)),
    ),
  ),
  wide('swiglu in place', 1e-6, [[5, 9]], (a) => swiglu(mul(a, a), a)),
  wide('sum of 20000 numbers', 1e-6, [[20_000]], (a) => sum(a)),
  wide('mean of long rows', 1e-6, [[3, 9001]], (a) => mean(a, { axes: [1] })),
  wide('sum of columns', 1e-6, [[5000, 7]], (a) => sum(a, { axes: [0] })),
  wide('sum of columns of matrices', 1e-6, [[2, 1100, 3]], (a) => sum(a, { axes: [1] })),
  wide('maximum of columns', 'exact', [[999, 5]], (a) => max(a, { axes: [0] })),
  wide('maximum of all', 'exact', [[130, 100]], (a) => max(a)),
  wide('sum of the outer dimensions', 1e-6, [[70, 5, 66]], (a) => sum(a, { axes: [0, 2] })),
  ...[
    [37, 24],
    [5, 384],
    [3, 1031],
  ].flatMap((shape) => [
    wide(`rmsNorm of ${JSON.stringify(shape)}`, 2e-6, [shape, [shape[1]]], (a, b) => rmsNorm(a, b, { epsilon })),
    wide(`layerNorm of ${JSON.stringify(shape)}`, 2e-6, [shape, [shape[1]], [shape[1]]], (a, b, c) =>
      layerNorm(a, b, c, { epsilon }),
    ),
  ]),
];

for (const shape of [
  [700, 40],
  [5, 384],
])
  cases.push({
    name: `rmsNorm and its gradients, ${JSON.stringify(shape)}`,
    tolerance: 1e-5,
    build(g) {
      const [a, b] = [g.input('a', f32(shape)), g.input('b', f32([shape[1]]))];
      const y = rmsNorm(a, b, { epsilon });
      const found = gradients(g, y, [a, b], { seed: g.input('dy', f32(shape)) });
      for (const [i, gradient] of found.entries()) g.output(`d${'ab'[i]}`, gradient);
    },
    runs: [{ a: gaussian(1, shape), b: gaussian(2, [shape[1]]), dy: gaussian(3, shape) }],
  });

const missing = missingGpu();

describe.skipIf(missing)(`wide shapes on webgpu${missing ? ` (${missing})` : ''}`, () => {
  const reference = createReferenceBackend();
  let backend: WebgpuBackend;
  beforeAll(async () => {
    backend = await createTestBackend();
  });
  afterAll(() => {
    expect(backend.usedBytes).toBe(0);
    backend.dispose();
  });

  it.each(cases.filter(({ name }) => /Norm/.test(name)).map((one) => [one.name, one] as const))(
    'without subgroups: %s',
    async (_, one) => {
      const plain = await createTestBackend({ withoutFeatures: ['subgroups'] });
      expect(differences(await runOpCase(plain, one), await runOpCase(reference, one), one.tolerance)).toEqual([]);
      plain.dispose();
    },
  );

  it.each(cases.map((one) => [one.name, one] as const))('%s', async (_, one) => {
    const found = await runOpCase(backend, one);
    expect(differences(found, await runOpCase(reference, one), one.tolerance)).toEqual([]);
    const bits = (results: typeof found) => results.map((r) => [...r].map(([, { data }]) => [...data]));
    expect(bits(await runOpCase(backend, one))).toEqual(bits(found));
  });
});
