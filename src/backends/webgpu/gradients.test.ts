// Gradients, losses and updates on shapes that take several tiles, blocks and spans, which the shared cases are too
// small for; ties, infinities and data errors.

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createTestBackend, missingGpu } from '../../../test/support/software-gpu.ts';
import { gradients } from '../../graph/differentiate.ts';
import type { Value } from '../../graph/graph.ts';
import { affine } from '../../graph/ops/affine.ts';
import { type AttentionOptions, attention } from '../../graph/ops/attention.ts';
import { compareLogits } from '../../graph/ops/compare-logits.ts';
import { crossEntropy } from '../../graph/ops/cross-entropy.ts';
import { embedding } from '../../graph/ops/embedding.ts';
import { expertMatmul } from '../../graph/ops/expert-matmul.ts';
import { gramUpdate } from '../../graph/ops/gram.ts';
import { layerNorm, rmsNorm } from '../../graph/ops/norm.ts';
import { adamw, sgd, sgdMomentum } from '../../graph/ops/optimizers.ts';
import { max } from '../../graph/ops/reduce.ts';
import { topK } from '../../graph/ops/top-k.ts';
import { type GraphBuilder, trace } from '../../graph/trace.ts';
import { f32, i32 } from '../../graph/value-type.ts';
import type { Shape } from '../../tensor/shape.ts';
import { tensorF32 } from '../../tensor/tensor.ts';
import type { Backend, Executable } from '../backend.ts';
import { packedTensor } from '../cases/common.ts';
import { differences, gaussian, integers, type OpCase, runOpCase } from '../op-case.ts';
import { createReferenceBackend } from '../reference/reference-backend.ts';
import type { WebgpuBackend } from './backend.ts';

type Data = Record<string, Float32Array | Int32Array>;
type Body = (values: Value[], at: Value, g: GraphBuilder) => Value;

/** y of f32 inputs a, b, … and i32 input `at`, with the gradients of the f32 inputs. */
function gradientCase(
  name: string,
  shapes: readonly Shape[],
  body: Body,
  at: { shape: Shape; data: Int32Array } = { shape: [1], data: Int32Array.of(0) },
  data: Data = {},
): OpCase {
  const names = shapes.map((_, i) => 'abc'[i]);
  const build = (g: GraphBuilder) => {
    const values = shapes.map((shape, i) => g.input(names[i], f32(shape)));
    const y = body(values, g.input('at', i32(at.shape)), g);
    g.output('y', y);
    const found = gradients(g, y, values, { seed: g.input('dy', f32(y.type.shape)) });
    for (const [i, gradient] of found.entries()) g.output(`d${names[i]}`, gradient);
  };
  const dy = gaussian(77, trace(build).inputs.get('dy')!.type.shape);
  const random = Object.fromEntries(shapes.map((shape, i) => [names[i], gaussian(i + 1, shape)]));
  return { name, tolerance: 1e-5, build, runs: [{ ...random, at: at.data, dy, ...data }] };
}

const heads = (name: string, [B, T, S, H, G, D]: number[], options: AttentionOptions) =>
  gradientCase(
    `attention ${name}`,
    [
      [B, T, H, D],
      [B, S, G, D],
      [B, S, G, D],
    ],
    ([q, k, v]) => attention(q, k, v, options),
  );

const tenths = (x: Float32Array) => x.map((v) => Math.round(10 * v) / 10);
const logits = gaussian(1, [3, 1100], 3).map((x, i) => (i % 7 === 0 ? -Infinity : Math.round(x)));

const cases: OpCase[] = [
  gradientCase(
    'crossEntropy, several tiles a workgroup',
    [
      [3, 3],
      [33000, 3],
    ],
    ([a, b], at) => crossEntropy(a, b, at),
    { shape: [3], data: Int32Array.of(32999, -1, 100) },
  ),
  ...[
    [150, 67],
    [150, 2, 67],
  ].map((shape) =>
    gradientCase(
      `expertMatmul, several tiles an expert, x ${shape.length}-D`,
      [shape, [5, 70, 67]],
      ([a, b], at) => expertMatmul(a, b, at),
      // Expert 2 gets most rows, expert 3 none.
      { shape: [150, 2], data: integers(5, [150, 2], 0, 9).map((e) => (e > 4 || e === 3 ? 2 : e)) },
    ),
  ),
  gradientCase(
    'expertMatmul, packed weights, several tiles an expert',
    [[150, 64]],
    ([a], at, g) => expertMatmul(a, g.constant(packedTensor(3, [5, 70, 64], 'nvfp4')), at),
    { shape: [150, 2], data: integers(5, [150, 2], 0, 9).map((e) => (e > 4 || e === 3 ? 2 : e)) },
  ),
  gradientCase(
    'crossEntropy, a packed weight, width no multiple of a tile',
    [[70, 96]],
    ([a], at, g) => crossEntropy(a, g.constant(packedTensor(3, [300, 96], 'int4-g32-asym')), at),
    { shape: [70], data: integers(5, [70], -20, 300) },
  ),
  heads('causal, grouped heads, odd width', [2, 37, 37, 6, 2, 40], { causal: true }),
  heads('windowed', [1, 75, 75, 2, 1, 8], { causal: true, window: 21 }),
  heads('cross lengths', [1, 19, 70, 3, 3, 33], { scale: 0.3 }),
  gradientCase('embedding, several blocks of ids, unused rows', [[900, 5]], ([a], at) => embedding(a, at), {
    shape: [7, 100],
    data: integers(5, [7, 100], 0, 60).map((id) => 13 * id),
  }),
  ...(
    [
      // a third of the ids is one, and its run begins and ends inside chunks
      ['one frequent id', [300, 5], (i) => (i % 3 === 1 ? 7 : (i * 37) % 290)],
      ['runs that fill chunks exactly', [4, 3], (i) => Math.floor((i % 1024) / 256)],
      ['only one id', [2, 2], () => 1],
      ['ids of three bytes', [70_000, 1], (i) => (i * 7919) % 70_000],
    ] as [string, Shape, (i: number) => number][]
  ).map(([name, shape, id]) =>
    gradientCase(`embedding, ${name}`, [shape], ([a], at) => embedding(a, at), {
      shape: [1024],
      data: Int32Array.from({ length: 1024 }, (_, i) => id(i)),
    }),
  ),
  gradientCase('topK, many entries, ties', [[3, 1500]], ([a]) => topK(a, 20).values, undefined, {
    a: tenths(gaussian(1, [3, 1500])),
  }),
  gradientCase('rmsNorm, many rows', [[300, 70], [70]], ([a, b]) => rmsNorm(a, b, { epsilon: 1e-5 })),
  gradientCase('layerNorm, many rows', [[2, 150, 70], [70], [70]], ([a, b, c]) =>
    layerNorm(a, b, c, { epsilon: 1e-5 }),
  ),
  gradientCase('rmsNorm, more rows than shares', [[4500, 12], [12]], ([a, b]) => rmsNorm(a, b, { epsilon: 1e-5 })),
  gradientCase('rmsNorm, wide rows', [[37, 384], [384]], ([a, b]) => rmsNorm(a, b, { epsilon: 1e-5 })),
  gradientCase('rmsNorm, rows wider than a workgroup holds at once', [[3, 5003], [5003]], ([a, b]) =>
    rmsNorm(a, b, { epsilon: 1e-5 }),
  ),
  gradientCase('layerNorm, more rows than shares', [[4300, 20], [20], [20]], ([a, b, c]) =>
    layerNorm(a, b, c, { epsilon: 1e-5 }),
  ),
  gradientCase('layerNorm, wide rows', [[9, 1000], [1000], [1000]], ([a, b, c]) =>
    layerNorm(a, b, c, { epsilon: 1e-5 }),
  ),
  gradientCase('max of the last axis, ties', [[5, 300]], ([a]) => max(a, { axes: [1] }), undefined, {
    a: gaussian(1, [5, 300]).map(Math.round),
  }),
  gradientCase('max of the first axis, ties', [[40, 7]], ([a]) => max(a, { axes: [0] }), undefined, {
    a: gaussian(1, [40, 7]).map(Math.round),
  }),
  gradientCase(
    'compareLogits, impossible words, ties',
    [
      [3, 1100],
      [3, 1100],
    ],
    ([a, b], at) => compareLogits(a, b, at),
    { shape: [3], data: Int32Array.of(1, -1, 1098) },
    { a: logits, b: logits.map((x, i) => (x === -Infinity ? 0 : x) + (i > 1100 ? Math.sin(i) : 0)) },
  ),
];

const missing = missingGpu();

describe.skipIf(missing)(`gradients of more than a tile${missing ? ` (${missing})` : ''}`, { timeout: 300_000 }, () => {
  let backend: WebgpuBackend;
  beforeAll(async () => {
    backend = await createTestBackend();
  });
  afterAll(() => {
    expect(backend.usedBytes).toBe(0);
    backend.dispose();
  });

  it.each(cases.map((c) => [c.name, c] as const))('%s', async (_, opCase) => {
    const expected = await runOpCase(createReferenceBackend(), opCase);
    const found = await runOpCase(backend, opCase);
    expect(differences(found, expected, opCase.tolerance)).toEqual([]);
    expect(await runOpCase(backend, opCase)).toEqual(found); // sums have one order
  });

  it('crossEntropy takes the vocabulary in spans where buffers are small', async () => {
    const small = await createTestBackend({ maximumBufferBytes: 2 ** 18 });
    const shapes = [
      [130, 19],
      [500, 19],
    ];
    const at = { shape: [130], data: integers(5, [130], -30, 500) };
    const opCase = gradientCase('', shapes, ([a, b], targets) => crossEntropy(a, b, targets), at);
    const expected = await runOpCase(createReferenceBackend(), opCase);
    expect(differences(await runOpCase(small, opCase), expected, 1e-5)).toEqual([]);
    small.dispose();
  });

  it('topK gives distinct indices in range where there is NaN', async () => {
    const opCase: OpCase = {
      name: 'topK of NaN',
      tolerance: 'exact',
      build: (g) => void g.output('indices', topK(g.input('x', f32([1, 6])), 6).indices),
      runs: [{ x: Float32Array.of(1, Number.NaN, 2, Number.NaN, -Infinity, 0) }],
    };
    const [outputs] = await runOpCase(backend, opCase);
    expect([...outputs.get('indices')!.data]).toEqual([2, 0, 5, 4, 1, 3]);
  });

  async function compile(on: Backend, build: (g: GraphBuilder) => void, data: Data): Promise<Executable> {
    const executable = await on.compile(trace(build), { params: new Map() });
    for (const [name, values] of Object.entries(data)) executable.write(name, values);
    return executable;
  }

  const hidden: Shape = [4, 3];
  const wrongIndices: [op: string, reported: string, at: Shape, data: number[], shapes: Shape[], body: Body][] = [
    ['crossEntropy', 'a target', [4], [0, 1, 5, 2], [hidden, [5, 3]], ([a, b], at) => crossEntropy(a, b, at)],
    ['compareLogits', 'a target', [4], [0, 1, 3, 2], [hidden, hidden], ([a, b], at) => compareLogits(a, b, at)],
    [
      'expertMatmul',
      'an expert index',
      [4, 1],
      [0, 1, -2, 1],
      [hidden, [2, 3, 3]],
      ([a, b], at) => expertMatmul(a, b, at),
    ],
    ['embedding', 'an id', [4], [0, 1, 5, 2], [[5, 3]], ([a], at) => embedding(a, at)],
    // Without the value, only the gradient runs.
    [
      'expertMatmulBackward',
      'an expert index',
      [4, 1],
      [0, 1, 2, 1],
      [hidden, [2, 3, 3]],
      ([a, b], at) => expertMatmul(a, b, at),
    ],
    ['embeddingBackward', 'an id', [4], [0, 1, -1, 2], [[5, 3]], ([a], at) => embedding(a, at)],
  ];

  it.each(wrongIndices)(
    '%s names %s that is out of range, and no state changes',
    async (op, label, at, data, shapes, body) => {
      const build = (g: GraphBuilder) => {
        const values = shapes.map((shape, i) => g.input('ab'[i], f32(shape)));
        const y = body(values, g.input('at', i32(at)), g);
        if (!op.endsWith('Backward')) g.output('y', y);
        const seed = g.constant(tensorF32(y.type.shape, gaussian(7, y.type.shape)));
        const [gradient] = gradients(g, y, values.slice(0, 1), { seed });
        const state = (name: string) => g.state(name, f32(shapes[0]));
        const [w, m, v, u, n, s] = [...'wmvuns'].map(state);
        const learningRate = g.input('rate', f32([1]));
        const constants = { weightDecay: 0.1, beta1: 0.9, beta2: 0.99, epsilon: 1e-8 };
        g.output('w', adamw(w, { m, v }, gradient, { learningRate, step: g.input('step', i32([1])) }, constants));
        g.output('u', sgdMomentum(u, n, gradient, learningRate, { weightDecay: 0, momentum: 0.9, nesterov: true }));
        g.output('s', sgd(s, gradient, learningRate, { weightDecay: 0 }));
        g.output('gram', gramUpdate(g.state('gram', f32([3, 3])), values[0]));
      };
      const executable = await compile(backend, build, {
        at: Int32Array.from(data),
        rate: Float32Array.of(1),
        step: Int32Array.of(1),
        ...Object.fromEntries(shapes.map((shape, i) => ['ab'[i], gaussian(i, shape)])),
      });
      await expect(executable.run()).rejects.toThrow(`${op}: ${label} is out of range`);
      const states = async () =>
        Promise.all(
          ['w', 'u', 's', 'gram'].map(async (name) => (await executable.read(name)).data.some((x) => x !== 0)),
        );
      expect(await states()).toEqual([false, false, false, false]);
      executable.write('at', new Int32Array(data.length));
      await executable.run();
      expect(await states()).toEqual([true, true, true, true]);
      executable.dispose();
    },
  );

  it('adamw needs a step from 1 on', async () => {
    const executable = await compile(
      backend,
      (g) => {
        const [w, m, v] = ['w', 'm', 'v'].map((state) => g.state(state, f32([3])));
        const when = { learningRate: g.input('rate', f32([1])), step: g.input('step', i32([1])) };
        const constants = { weightDecay: 0, beta1: 0.9, beta2: 0.99, epsilon: 1e-8 };
        g.output('w', affine(adamw(w, { m, v }, g.input('gradient', f32([3])), when, constants), {}));
      },
      { gradient: Float32Array.of(1, 2, 3), rate: Float32Array.of(1), step: Int32Array.of(0) },
    );
    await expect(executable.run()).rejects.toThrow('adamw: the step is out of range');
    executable.write('step', Int32Array.of(1));
    await executable.run();
    for (const w of (await executable.read('w')).data) expect(w).toBeCloseTo(-1, 6);
    executable.dispose();
  });
});
