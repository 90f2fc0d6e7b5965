// Gradients across the blocks, pieces and chunks of their kernels, against the reference, with one thread and with two.

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseFormat } from '../../formats/registry.ts';
import { applyOp } from '../../graph/apply.ts';
import { gradients } from '../../graph/differentiate.ts';
import type { Value } from '../../graph/graph.ts';
import { type AttentionOptions, attention } from '../../graph/ops/attention.ts';
import { compareLogits } from '../../graph/ops/compare-logits.ts';
import { crossEntropy } from '../../graph/ops/cross-entropy.ts';
import { dgeBackward } from '../../graph/ops/dge.ts';
import { embedding, embeddingBackwardOp } from '../../graph/ops/embedding.ts';
import { expertMatmul } from '../../graph/ops/expert-matmul.ts';
import { matmul } from '../../graph/ops/matmul.ts';
import { layerNorm, rmsNorm } from '../../graph/ops/norm.ts';
import { adamw } from '../../graph/ops/optimizers.ts';
import { quantize } from '../../graph/ops/quantize.ts';
import { max } from '../../graph/ops/reduce.ts';
import { topKBackwardOp } from '../../graph/ops/top-k.ts';
import { unaryOp } from '../../graph/ops/unary.ts';
import type { GraphBuilder } from '../../graph/trace.ts';
import { trace } from '../../graph/trace.ts';
import { f32, i32 } from '../../graph/value-type.ts';
import type { Shape } from '../../tensor/shape.ts';
import { tensorF32 } from '../../tensor/tensor.ts';
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
  it('names an id outside the table, and an index outside the row', async () => {
    const run = (shapes: readonly Shape[], at: number[], backward: (values: Value[]) => Value) => {
      const build = (g: GraphBuilder) => {
        const index = g.input('at', i32(shapes[0]));
        g.output('y', backward([index, g.input('dy', f32(shapes[1]))]));
      };
      const data = { at: Int32Array.from(at), dy: gaussian(1, shapes[1]) };
      return runOpCase(backends[1], { name: '', tolerance: 0, build, runs: [data] });
    };
    await expect(run([[2], [2, 3]], [1, 5], (v) => applyOp(embeddingBackwardOp, v, { rows: 5 })[0])).rejects.toThrow(
      /embeddingBackward: an id is out of range .* got 5, expected 0 … 4/,
    );
    await expect(
      run(
        [
          [2, 1],
          [2, 1],
        ],
        [7, 0],
        (v) => applyOp(topKBackwardOp, v, { entries: 7 })[0],
      ),
    ).rejects.toThrow(/topKBackward: an expert index is out of range .* got 7, expected 0 … 6/);
  });
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

describe('unary', () => {
  // exp and square leave the range of float32; log, sqrt and rsqrt are steep at 0.
  const kinds = ['sigmoid', 'tanh', 'relu', 'silu', 'gelu', 'geluTanh', 'exp', 'log', 'sqrt', 'rsqrt'] as const;
  it.each(kinds)('%s far from 0', (kind) => {
    const positive = ['log', 'sqrt', 'rsqrt'].includes(kind);
    const near = Array.from({ length: 4001 }, (_, i) => (i - 2000) / 66.7);
    const values = kind === 'exp' ? near : [...near, 1e4, -1e4, 1e10, -1e10, 3e38, -3e38];
    const a = Float32Array.from(values, (v) => (positive ? Math.abs(v) + 0.01 : v));
    const body = ([x]: Value[]) => applyOp(unaryOp, [x], { kind })[0];
    const opCase = gradientCase(kind, [[a.length]], body);
    const dy = new Float32Array(a.length).fill(1);
    return agrees({ ...opCase, tolerance: 1e-6, runs: [{ a, dy }] });
  });
});

describe('rounding', () => {
  it('dge is exact to a millionth of each slope between two levels, up to slopes of a thousand', async () => {
    const count = 50_001;
    const x = Float32Array.from({ length: count }, (_, i) => (i < count - 1 ? i / (count - 2) / 2 : 6)); // scale 1
    const graph = trace((g) => {
      const v = g.input('x', f32([1, count]));
      const y = quantize(v, parseFormat('fp4-e2m1-channel'));
      const dy = g.constant(tensorF32([1, count], new Float32Array(count).fill(1)));
      g.output('dx', dgeBackward(v, y, dy, { k: 5, cap: 1000 }));
    });
    const run = await backends[1].compile(graph, { params: new Map() });
    run.write('x', x);
    run.run();
    const found = (await run.read('dx')).data;
    run.dispose();
    let worst = 0;
    for (const [i, z] of x.slice(0, -1).entries()) {
      const exact = Math.min(Math.abs(4 * z - 1) ** (1 / 5 - 1) / 5, 1000);
      worst = Math.max(worst, Math.abs(found[i] / exact - 1));
    }
    expect(worst).toBeLessThan(1e-6);
  });
});

describe('optimizers', () => {
  it('set moments below the normal range to 0, so that they do not slow down what follows', async () => {
    const graph = trace((g) => {
      const [w, m, v] = ['w', 'm', 'v'].map((name) => g.state(name, f32([5])));
      const schedule = { learningRate: g.input('rate', f32([1])), step: g.input('step', i32([1])) };
      const constants = { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0 };
      const next = adamw(w, { m, v }, g.input('gradient', f32([5])), schedule, constants);
      const { outputs } = g.graph.nodes.find((node) => node.outputs.includes(next))!;
      g.output('m', outputs[1]);
      g.output('v', outputs[2]);
    });
    const run = await backends[1].compile(graph, { params: new Map() });
    run.write('gradient', Float32Array.of(1e-30, 1e-38, -1e-38, 1e-16, Number.NaN));
    run.write('step', Int32Array.of(1));
    run.run();
    const [m, v] = [(await run.read('m')).data, (await run.read('v')).data];
    run.dispose();
    expect(m[0]).toBeCloseTo(1e-31, 36);
    expect([m[1], m[2], v[0]]).toEqual([0, 0, 0]);
    expect(m[3]).toBeGreaterThan(0);
    expect(v[3]).toBeGreaterThan(0);
    expect([m[4], v[4]]).toEqual([Number.NaN, Number.NaN]);
  });
});
