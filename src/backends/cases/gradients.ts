// Gradients: a differentiable expression for every op, on awkward shapes. Each is a case for backends (the gradients of
// all its inputs for a random gradient of its result) and an expression whose gradients the tests compare with finite
// differences.

import { applyOp } from '../../graph/apply.ts';
import { gradients } from '../../graph/differentiate.ts';
import type { Value } from '../../graph/graph.ts';
import { affine } from '../../graph/ops/affine.ts';
import { add, div, mul, sub } from '../../graph/ops/arithmetic.ts';
import { type AttentionOptions, attention } from '../../graph/ops/attention.ts';
import { compareLogits } from '../../graph/ops/compare-logits.ts';
import { crossEntropy } from '../../graph/ops/cross-entropy.ts';
import { embedding } from '../../graph/ops/embedding.ts';
import { expertMatmul } from '../../graph/ops/expert-matmul.ts';
import { fakeQuantize } from '../../graph/ops/fake-quantize.ts';
import { hadamard } from '../../graph/ops/hadamard.ts';
import { concat, pad, reshape, slice, transpose } from '../../graph/ops/layout.ts';
import { matmul } from '../../graph/ops/matmul.ts';
import { layerNorm, rmsNorm } from '../../graph/ops/norm.ts';
import { selectBits } from '../../graph/ops/quantize.ts';
import { broadcastTo, max, mean, sum } from '../../graph/ops/reduce.ts';
import { rope } from '../../graph/ops/rope.ts';
import { softmax } from '../../graph/ops/softmax.ts';
import { swiglu } from '../../graph/ops/swiglu.ts';
import { topK } from '../../graph/ops/top-k.ts';
import { unaryKinds, unaryOp } from '../../graph/ops/unary.ts';
import { type GraphBuilder, trace } from '../../graph/trace.ts';
import { f32, i32 } from '../../graph/value-type.ts';
import type { Shape } from '../../tensor/shape.ts';
import { tensorF32 } from '../../tensor/tensor.ts';
import { gaussian, type OpCase } from '../op-case.ts';
import { packedTensor } from './common.ts';

/** y as a function of f32 inputs a, b, c …, with the data of these and of index inputs. */
export interface Differentiable {
  name: string;
  build(g: GraphBuilder): { y: Value; wrt: readonly Value[] };
  data: Readonly<Record<string, Float32Array | Int32Array>>;
}

interface Extra {
  /** Applied to the normal numbers of every input. */
  map?: (x: number) => number;
  indices?: Readonly<Record<string, { shape: Shape; data: readonly number[] }>>;
}

function expression(
  name: string,
  shapes: readonly Shape[],
  body: (inputs: Value[], g: GraphBuilder) => Value,
  { map = (x) => x, indices = {} }: Extra = {},
): Differentiable {
  const names = shapes.map((_, i) => 'abcdef'[i]);
  return {
    name,
    build(g) {
      const wrt = shapes.map((shape, i) => g.input(names[i], f32(shape)));
      const index = Object.entries(indices).map(([label, { shape }]) => g.input(label, i32(shape)));
      return { y: body([...wrt, ...index], g), wrt };
    },
    data: {
      ...Object.fromEntries(shapes.map((shape, i) => [names[i], gaussian(i + 1, shape).map(map)])),
      ...Object.fromEntries(Object.entries(indices).map(([label, { data }]) => [label, Int32Array.from(data)])),
    },
  };
}

const awayFromZero = (x: number) => x + (x < 0 ? -0.5 : 0.5);
const positive = (x: number) => Math.abs(x) + 0.5;

const elementwise: Differentiable[] = [
  expression(
    'add broadcast',
    [
      [2, 1, 3],
      [5, 1],
    ],
    ([a, b]) => add(a, b),
  ),
  expression('sub scalar', [[3, 2], []], ([a, b]) => sub(a, b)),
  expression(
    'mul broadcast',
    [
      [4, 1],
      [3, 1, 5],
    ],
    ([a, b]) => mul(a, b),
  ),
  expression('mul by itself', [[7]], ([a]) => mul(a, a)),
  expression(
    'div broadcast',
    [
      [3, 4],
      [1, 4],
    ],
    ([a, b]) => div(a, b),
    { map: awayFromZero },
  ),
  expression('div of a scalar', [[1], [2, 3]], ([a, b]) => div(a, b), { map: awayFromZero }),
  expression('affine', [[5]], ([a]) => affine(a, { scale: -2.5, offset: 3 })),
  ...unaryKinds.map((kind) =>
    expression(`unary ${kind}`, [[3, 11]], ([a]) => applyOp(unaryOp, [a], { kind })[0], {
      map: ['log', 'sqrt', 'rsqrt'].includes(kind) ? positive : awayFromZero,
    }),
  ),
  expression(
    'swiglu',
    [
      [3, 7],
      [3, 7],
    ],
    ([a, b]) => swiglu(a, b),
  ),
];

const layout: Differentiable[] = [
  expression('reshape', [[2, 6]], ([a]) => reshape(a, [3, 1, 4])),
  expression('transpose', [[2, 3, 5]], ([a]) => transpose(a, [2, 0, 1])),
  expression('slice', [[2, 7, 3]], ([a]) => slice(a, 1, 2, 3)),
  expression('slices that overlap', [[7]], ([a]) => add(slice(a, 0, 0, 4), slice(a, 0, 2, 4))),
  expression(
    'concat',
    [
      [2, 1, 3],
      [2, 4, 3],
    ],
    ([a, b]) => concat([a, b, a], 1),
  ),
  expression('pad', [[2, 3]], ([a]) => pad(a, 1, 2, 1)),
  expression('selectBits', [[2, 64]], ([a, bits]) => selectBits(a, bits), {
    indices: { bits: { shape: [2, 2], data: [0x0f0f1234, -1, 0, -0x55555556] } },
  }),
  expression('broadcastTo', [[3, 1]], ([a]) => broadcastTo(a, [2, 3, 4])),
];

const reductions: Differentiable[] = [
  expression('sum of all', [[3, 5]], ([a]) => sum(a)),
  expression('sum over the middle', [[2, 3, 5]], ([a]) => sum(a, { axes: [1] })),
  expression('mean over two axes, kept', [[2, 3, 5]], ([a]) => mean(a, { axes: [0, 2], keepDims: true })),
  expression('max over rows', [[4, 7]], ([a]) => max(a, { axes: [-1] })),
  expression('max over columns, kept', [[4, 3]], ([a]) => max(a, { axes: [0], keepDims: true })),
  expression('softmax', [[3, 7]], ([a]) => softmax(a)),
  expression('rmsNorm', [[2, 3, 5], [5]], ([a, b]) => rmsNorm(a, b, { epsilon: 1e-3 })),
  expression('rmsNorm, one channel', [[3, 1], [1]], ([a, b]) => rmsNorm(a, b, { epsilon: 0.1 })),
  expression('layerNorm', [[4, 7], [7], [7]], ([a, b, c]) => layerNorm(a, b, c, { epsilon: 1e-3 })),
  expression('hadamard', [[3, 8]], ([a]) => hadamard(a, { blockSize: 4 })),
  expression('hadamard with signs', [[3, 8], [4]], ([a, b]) => hadamard(a, { blockSize: 4, signs: b })),
];

const heads = (name: string, [B, T, S, H, G, D]: number[], options: Omit<AttentionOptions, 'start'>, start?: number) =>
  expression(
    `attention ${name}`,
    [
      [B, T, H, D],
      [B, S, G, D],
      [B, S, G, D],
    ],
    ([q, k, v, at]) => attention(q, k, v, at ? { ...options, start: at } : options),
    start === undefined ? {} : { indices: { start: { shape: [1], data: [start] } } },
  );

const positional: Differentiable[] = [
  ...(['half', 'interleaved'] as const).map((style) =>
    expression(
      `rope ${style}, 6 of 8 dimensions`,
      [[2, 3, 2, 8]],
      ([a, positions], g) =>
        rope(a, positions, g.constant(tensorF32([3], Float32Array.of(1, 0.3, 0.02))), { style, magnitude: 1.25 }),
      { indices: { positions: { shape: [2, 3], data: [0, 1, 2, 7, 50, 3] } } },
    ),
  ),
  heads('full, cross lengths', [1, 3, 5, 2, 2, 3], {}),
  heads('causal, grouped heads', [2, 4, 4, 6, 2, 3], { causal: true, scale: 0.7 }),
  heads('multi-query, window', [1, 7, 7, 3, 1, 2], { causal: true, window: 3 }),
  heads('window of one', [1, 3, 3, 1, 1, 2], { causal: true, window: 1 }),
  heads('with start', [1, 2, 6, 2, 1, 4], { causal: true }, 3),
  heads('with start and window', [2, 2, 7, 2, 2, 3], { causal: true, window: 3 }, 4),
];

const flags = [false, true].flatMap((transposeA) => [false, true].map((transposeB) => ({ transposeA, transposeB })));
const turned = (batch: Shape, rows: number, cols: number, flag: boolean): Shape => [
  ...batch,
  ...(flag ? [cols, rows] : [rows, cols]),
];
const products: Differentiable[] = flags.flatMap((options) => {
  const { transposeA, transposeB } = options;
  return (
    [
      ['', [], []],
      [', shared b', [2, 3], []],
      [', batched', [2, 2], [2, 2]],
    ] as const
  ).map(([label, batchA, batchB]) =>
    expression(
      `matmul${label}${transposeA ? ', a transposed' : ''}${transposeB ? ', b transposed' : ''}`,
      [turned(batchA, 3, 5, transposeA), turned(batchB, 5, 4, transposeB)],
      ([a, b]) => matmul(a, b, options),
    ),
  );
});

const lookups: Differentiable[] = [
  expression('matmul with a packed weight', [[3, 32]], ([a], g) =>
    matmul(a, g.constant(packedTensor(9, [5, 32], 'mxfp4')), { transposeB: true }),
  ),
  expression('embedding, repeated ids', [[5, 3]], ([a, ids]) => embedding(a, ids), {
    indices: { ids: { shape: [2, 3], data: [4, 0, 4, 4, 2, 0] } },
  }),
  expression('topK', [[3, 7]], ([a]) => topK(a, 3).values),
  ...[
    [3, 5],
    [3, 2, 5],
  ].map((shape) =>
    expression(`expertMatmul, x ${shape.length}-D`, [shape, [4, 2, 5]], ([a, b, at]) => expertMatmul(a, b, at), {
      indices: { at: { shape: [3, 2], data: [0, 3, 3, 3, 1, 0] } },
    }),
  ),
  expression(
    'expertMatmul with packed weights',
    [[3, 32]],
    ([a, at], g) => expertMatmul(a, g.constant(packedTensor(9, [2, 3, 32], 'mxfp4')), at),
    { indices: { at: { shape: [3, 2], data: [0, 1, 1, 0, 1, 1] } } },
  ),
  expression(
    'crossEntropy',
    [
      [4, 3],
      [7, 3],
    ],
    ([a, b, targets]) => crossEntropy(a, b, targets),
    {
      indices: { targets: { shape: [4], data: [6, -1, 0, 6] } },
    },
  ),
  expression(
    'crossEntropy with a packed weight',
    [[2, 32]],
    ([a, targets], g) => crossEntropy(a, g.constant(packedTensor(9, [5, 32], 'mxfp4')), targets),
    { indices: { targets: { shape: [2], data: [3, 0] } } },
  ),
  expression(
    'compareLogits',
    [
      [4, 5],
      [4, 5],
    ],
    ([a, b, targets]) => slice(compareLogits(a, b, targets), 1, 0, 3),
    { indices: { targets: { shape: [4], data: [0, -1, 4, 2] } } },
  ),
];

/** Expressions whose gradients are the derivatives of what they compute. */
export const differentiable: readonly Differentiable[] = [
  ...elementwise,
  ...layout,
  ...reductions,
  ...positional,
  ...products,
  ...lookups,
];

/** Expressions with a surrogate gradient, which finite differences do not show. */
export const surrogate: readonly Differentiable[] = [
  expression(
    'fakeQuantize, a step for each row',
    [
      [5, 7],
      [5, 1],
    ],
    ([a, b]) => fakeQuantize(a, b, { low: -4, high: 3 }),
    {
      map: positive,
    },
  ),
];

/** Values and gradients of every expression; the gradient of y is the input dy. */
export const gradientOpCases: readonly OpCase[] = [...differentiable, ...surrogate].map((e) => {
  const build = (g: GraphBuilder) => {
    const { y, wrt } = e.build(g);
    const seed = g.input('dy', f32(y.type.shape));
    g.output('y', y);
    for (const [i, gradient] of gradients(g, y, wrt, { seed }).entries()) g.output(`d${wrt[i].name}`, gradient);
  };
  const { shape } = trace(build).inputs.get('dy')!.type;
  return { name: `gradient of ${e.name}`, tolerance: 1e-5, build, runs: [{ ...e.data, dy: gaussian(77, shape) }] };
});
