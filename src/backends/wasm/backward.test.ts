// Gradients across the blocks, pieces and chunks of their kernels, against the reference, with one thread and with two.

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { gradients } from '../../graph/differentiate.ts';
import type { Value } from '../../graph/graph.ts';
import { type AttentionOptions, attention } from '../../graph/ops/attention.ts';
import { compareLogits } from '../../graph/ops/compare-logits.ts';
import { crossEntropy } from '../../graph/ops/cross-entropy.ts';
import { embedding } from '../../graph/ops/embedding.ts';
import { expertMatmul } from '../../graph/ops/expert-matmul.ts';
import { matmul } from '../../graph/ops/matmul.ts';
import { layerNorm, rmsNorm } from '../../graph/ops/norm.ts';
import { max } from '../../graph/ops/reduce.ts';
import type { GraphBuilder } from '../../graph/trace.ts';
import { trace } from '../../graph/trace.ts';
import { f32, i32 } from '../../graph/value-type.ts';
import type { Shape } from '../../tensor/shape.ts';
import { packedTensor } from '../cases/common.ts';
import { differences, gaussian, integers, type OpCase, runOpCase } from '../op-case.ts';
import { createReferenceBackend } from '../reference/reference-backend.ts';
import { createWasmBackend, type WasmBackend } from './backend.ts';

let backends: WasmBackend[];
beforeAll(async () => {
  backends = [await createWasmBackend({ threads: 1 }), await createWasmBackend({ threads: 2 })];
});
afterAll(() => backends.forEach((backend) => void backend.dispose()));

interface Indices {
  shape: Shape;
  data: Int32Array;
}

/** A case of y and the gradients of all real inputs, for a random gradient of y. */
function gradientCase(
  name: string,
  shapes: readonly Shape[],
  body: (inputs: Value[], g: GraphBuilder) => Value,
  { indices, scales = [] }: { indices?: Indices; scales?: number[] } = {},
): OpCase {
  const names = shapes.map((_, i) => 'abcd'[i]);
  const build = (g: GraphBuilder) => {
    const wrt = shapes.map((shape, i) => g.input(names[i], f32(shape)));
    const y = body(indices ? [...wrt, g.input('at', i32(indices.shape))] : wrt, g);
    const seed = g.input('dy', f32(y.type.shape));
    for (const [i, gradient] of gradients(g, y, wrt, { seed }).entries()) g.output(`d${names[i]}`, gradient);
  };
  const { shape } = trace(build).inputs.get('dy')!.type;
  const data = Object.fromEntries(shapes.map((s, i) => [names[i], gaussian(i + 1, s, scales[i])]));
  return {
    name,
    tolerance: 1e-5,
    build,
    runs: [{ ...data, ...(indices && { at: indices.data }), dy: gaussian(9, shape) }],
  };
}

async function agrees(opCase: OpCase): Promise<void> {
  const expected = await runOpCase(createReferenceBackend(), opCase);
  const [one, two] = [await runOpCase(backends[0], opCase), await runOpCase(backends[1], opCase)];
  expect(differences(one, expected, opCase.tolerance)).toEqual([]);
  expect(two).toEqual(one);
}

describe('attention', () => {
  type Sizes = Record<'B' | 'T' | 'S' | 'H' | 'G' | 'D', number>;
  const cases: [name: string, sizes: Sizes, options: Omit<AttentionOptions, 'start'>, start?: number][] = [
    ['several chunks, a task a head', { B: 1, T: 150, S: 150, H: 6, G: 2, D: 20 }, { causal: true }],
    ['a task a key head', { B: 8, T: 40, S: 40, H: 6, G: 2, D: 12 }, { causal: true }],
    ['all keys', { B: 2, T: 61, S: 200, H: 2, G: 2, D: 13 }, {}],
    ['window across blocks', { B: 1, T: 200, S: 200, H: 2, G: 1, D: 8 }, { causal: true, window: 70 }],
    ['start', { B: 2, T: 33, S: 200, H: 4, G: 2, D: 64 }, { causal: true }, 130],
    ['long, in small chunks', { B: 1, T: 30, S: 2100, H: 2, G: 1, D: 5 }, { causal: true }, 2061],
  ];
  it.each(cases)('%s', (name, { B, T, S, H, G, D }, options, start) =>
    agrees(
      gradientCase(
        name,
        [
          [B, T, H, D],
          [B, S, G, D],
          [B, S, G, D],
        ],
        ([q, k, v, at]) => attention(q, k, v, at ? { ...options, start: at } : options),
        { scales: [3], indices: start === undefined ? undefined : { shape: [1], data: Int32Array.of(start) } },
      ),
    ),
  );

  it('gives no position outside the keys a gradient', async () => {
    const shapes: Shape[] = [
      [1, 2, 1, 4],
      [1, 5, 1, 4],
      [1, 5, 1, 4],
    ];
    const body = ([q, k, v, start]: Value[]) => attention(q, k, v, { causal: true, start });
    const opCase = gradientCase('start', shapes, body, { indices: { shape: [1], data: Int32Array.of(4) } });
    await expect(runOpCase(backends[1], opCase)).rejects.toThrow(/start is out of range .* got 4, expected 0 … 3/);
  });
});

describe('crossEntropy', () => {
  const loss = (N: number, V: number, C: number) =>
    gradientCase(
      'loss',
      [
        [N, C],
        [V, C],
      ],
      ([h, w, t]) => crossEntropy(h, w, t),
      {
        indices: { shape: [N], data: integers(3, [N], -1, V) },
        scales: [1, 0.5],
      },
    );
  it('joins pieces of rows and of the vocabulary', () => agrees(loss(1030, 2051, 24)));
  it('takes several depth blocks', () => agrees(loss(37, 130, 1050)));
  it('takes one row and one channel', () => agrees(loss(1, 1500, 1)));
  it.each(['mxfp4', 'bf16', 'q8_0'])('decodes %s once for all rows', (format) =>
    agrees(
      gradientCase(
        'packed',
        [[530, 64]],
        ([h, t], g) => crossEntropy(h, g.constant(packedTensor(5, [1100, 64], format)), t),
        { indices: { shape: [530], data: integers(3, [530], -1, 1100) } },
      ),
    ),
  );
  it('names a target outside the vocabulary', async () => {
    const { build } = loss(2, 7, 3);
    const data = { a: gaussian(1, [2, 3]), b: gaussian(2, [7, 3]), at: Int32Array.of(1, 7), dy: gaussian(3, [2]) };
    await expect(runOpCase(backends[1], { name: '', tolerance: 0, build, runs: [data] })).rejects.toThrow(
      /a target is out of range .* got 7, expected 0 … 6/,
    );
  });
});

describe('expertMatmul', () => {
  // Experts with no row, with few and with more than a panel of depth.
  const routes = (N: number, k: number, E: number) =>
    integers(4, [N, k], 0, E).map((e, i) => (e === 2 ? 0 : i % 9 === 0 ? e : e % 2));
  const cases: [N: number, k: number, E: number, M: number, K: number, perSlot: boolean][] = [
    [57, 2, 6, 19, 300, false],
    [57, 2, 6, 19, 300, true],
    [700, 2, 3, 13, 11, false],
    [9, 1, 4, 530, 21, true],
  ];
  it.each(cases)('N %d, k %d, E %d, M %d, K %d, an input for each slot: %s', (N, k, E, M, K, perSlot) =>
    agrees(
      gradientCase('experts', [perSlot ? [N, k, K] : [N, K], [E, M, K]], ([x, w, at]) => expertMatmul(x, w, at), {
        indices: { shape: [N, k], data: routes(N, k, E) },
      }),
    ),
  );
  it.each(['mxfp4', 'int4-g32-asym', 'q8_0'])('%s weights', (format) =>
    agrees(
      gradientCase(
        'packed experts',
        [[61, 64]],
        ([x, at], g) => expertMatmul(x, g.constant(packedTensor(5, [5, 19, 64], format)), at),
        { indices: { shape: [61, 2], data: routes(61, 2, 5) } },
      ),
    ),
  );
});

describe('rows', () => {
  it('rmsNorm over several blocks of rows', () =>
    agrees(gradientCase('rms', [[2, 70, 130], [130]], ([x, w]) => rmsNorm(x, w, { epsilon: 1e-5 }))));
  it('layerNorm over several blocks of rows', () =>
    agrees(gradientCase('ln', [[97, 67], [67], [67]], ([x, w, b]) => layerNorm(x, w, b, { epsilon: 1e-5 }))));
  it('embedding with ids that repeat often', () =>
    agrees(
      gradientCase('embedding', [[300, 37]], ([table, ids]) => embedding(table, ids), {
        indices: { shape: [2000], data: integers(3, [2000], 0, 300).map((id) => (id < 100 ? 7 : id)) },
      }),
    ));
  it('compareLogits of wide rows', () =>
    agrees(
      gradientCase(
        'compare',
        [
          [5, 2049],
          [5, 2049],
        ],
        ([p, q, t]) => compareLogits(p, q, t),
        {
          indices: { shape: [5], data: Int32Array.of(0, -1, 2048, 3, 1000) },
        },
      ),
    ));
  it('max over several axes, with ties', () => {
    const body = ([x]: Value[]) => max(x, { axes: [0, 2] });
    const opCase = gradientCase('max', [[3, 5, 7, 2]], body);
    const a = integers(1, [3, 5, 7, 2], 0, 3);
    return agrees({ ...opCase, runs: [{ ...opCase.runs[0], a: Float32Array.from(a) }] });
  });
  it('products in several blocks', () =>
    agrees(
      gradientCase(
        'matmul',
        [
          [2, 131, 67],
          [600, 67],
        ],
        ([a, b]) => matmul(a, b, { transposeB: true }),
      ),
    ));
});
