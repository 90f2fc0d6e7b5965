// One or more cases for every op of the catalogue, on awkward shapes: ones, primes, more than one vector width, K that
// is no multiple of 32 for dense operands, ties, masked and empty rows, infinities.

import { quantize as encode } from '../formats/quantize.ts';
import { parseFormat } from '../formats/registry.ts';
import { applyOp } from '../graph/apply.ts';
import type { Value } from '../graph/graph.ts';
import { affine } from '../graph/ops/affine.ts';
import { add, div, mul, sub } from '../graph/ops/arithmetic.ts';
import { type AttentionOptions, attention } from '../graph/ops/attention.ts';
import { cacheWrite } from '../graph/ops/cache-write.ts';
import { compareLogits } from '../graph/ops/compare-logits.ts';
import { crossEntropy } from '../graph/ops/cross-entropy.ts';
import { embedding } from '../graph/ops/embedding.ts';
import { expertMatmul } from '../graph/ops/expert-matmul.ts';
import { hadamard } from '../graph/ops/hadamard.ts';
import { concat, reshape, slice, transpose } from '../graph/ops/layout.ts';
import { matmul } from '../graph/ops/matmul.ts';
import { layerNorm, rmsNorm } from '../graph/ops/norm.ts';
import { dequantize, quantize } from '../graph/ops/quantize.ts';
import { argmax, max, mean, sum } from '../graph/ops/reduce.ts';
import { rope } from '../graph/ops/rope.ts';
import { softmax } from '../graph/ops/softmax.ts';
import { swiglu } from '../graph/ops/swiglu.ts';
import { topK } from '../graph/ops/top-k.ts';
import { exp, log, unaryKinds, unaryOp } from '../graph/ops/unary.ts';
import { f32, i32, packed } from '../graph/value-type.ts';
import { elementCount, type Shape } from '../tensor/shape.ts';
import { type QTensor, qtensor, tensorF32 } from '../tensor/tensor.ts';
import { gaussian, integers, type OpCase } from './op-case.ts';

type Data = Record<string, Float32Array | Int32Array>;

/** A case whose graph takes only f32 inputs of the given shapes, filled with normal numbers, and has output y. */
function dense(
  name: string,
  shapes: readonly Shape[],
  tolerance: OpCase['tolerance'],
  body: (...inputs: Value[]) => Value,
  data: Data = {},
): OpCase {
  const names = shapes.map((_, i) => 'abcdef'[i]);
  return {
    name,
    tolerance,
    build: (g) => void g.output('y', body(...shapes.map((shape, i) => g.input(names[i], f32(shape))))),
    runs: [{ ...Object.fromEntries(shapes.map((shape, i) => [names[i], gaussian(i + 1, shape)])), ...data }],
  };
}

/** A seeded matrix stored in a format. */
function packedTensor(seed: number, shape: Shape, format: string): QTensor {
  const cols = shape[shape.length - 1];
  const rows = elementCount(shape) / cols;
  return qtensor(shape, encode(gaussian(seed, shape), rows, cols, parseFormat(format)));
}

const layoutCases: OpCase[] = [
  dense('reshape of an intermediate', [[3, 5, 2]], 'exact', (a) => reshape(affine(a, { scale: 2 }), [5, -1])),
  dense('reshape of an input', [[6]], 'exact', (a) => reshape(a, [2, 3])),
  dense('transpose 2-D', [[7, 5]], 'exact', (a) => transpose(a, [1, 0])),
  dense('transpose 4-D', [[2, 3, 5, 4]], 'exact', (a) => transpose(a, [0, 2, 1, 3])),
  dense('transpose 3-D rotation', [[2, 3, 17]], 'exact', (a) => transpose(a, [2, 0, 1])),
  dense('slice of the last axis', [[3, 11]], 'exact', (a) => slice(a, -1, 4, 5)),
  dense('slice of the first axis', [[7, 3]], 'exact', (a) => slice(a, 0, 6, 1)),
  dense('slice of a middle axis', [[2, 5, 3]], 'exact', (a) => slice(a, 1, 1, 3)),
  dense(
    'concat first axis',
    [
      [1, 5],
      [3, 5],
    ],
    'exact',
    (a, b) => concat([a, b], 0),
  ),
  dense(
    'concat last axis',
    [
      [3, 2],
      [3, 7],
      [3, 1],
    ],
    'exact',
    (a, b, c) => concat([a, b, c], -1),
  ),
  dense('concat of one', [[3, 2]], 'exact', (a) => concat([a], 1)),
];

const arithmetics = { add, sub, mul, div };
const arithmeticCases: OpCase[] = Object.entries(arithmetics).flatMap(([name, op]) => [
  dense(
    `${name} equal shapes`,
    [
      [3, 7],
      [3, 7],
    ],
    1e-7,
    op,
  ),
  dense(`${name} bias`, [[2, 3, 19], [19]], 1e-7, op),
  dense(`${name} scalar`, [[], [5, 3]], 1e-7, op),
  dense(
    `${name} both stretch`,
    [
      [4, 1, 3],
      [2, 1],
    ],
    1e-7,
    op,
  ),
  dense(
    `${name} column`,
    [
      [5, 9],
      [5, 1],
    ],
    1e-7,
    op,
  ),
]);
arithmeticCases.push(
  dense('add with itself in place', [[33]], 1e-6, (a) => {
    const doubled = affine(a, { scale: 2 });
    return affine(add(doubled, doubled), { offset: 1 });
  }),
  dense('div by zero', [[4], [4]], 'exact', div, {
    a: Float32Array.of(1, -1, 0, 3),
    b: Float32Array.of(0, 0, 0, 2),
  }),
);

const edge = Float32Array.of(0, -0, 1, -1, 30, -30, 100, -100, 1e-6, -1e-6, 5.5, -5.5, 0.1, -3, 2.75, 88, -88);
const unaryCases: OpCase[] = unaryKinds.flatMap((kind) => {
  const op = (x: Value) => applyOp(unaryOp, [x], { kind })[0];
  const positive = kind === 'log' || kind === 'sqrt' || kind === 'rsqrt';
  const values = gaussian(3, [67], 2).map((x) => (positive ? Math.abs(x) + 1e-3 : x));
  // e^x is compared where it stays within float32.
  const range = edge.map((x) => (positive ? Math.abs(x) + 1e-6 : kind === 'exp' ? Math.min(x, 20) : x));
  return [
    dense(`${kind} 67 values`, [[67]], 1e-6, op, { a: values }),
    dense(`${kind} edges`, [[edge.length]], 1e-6, op, { a: range }),
    dense(`${kind} one value`, [[1, 1]], 1e-6, op, { a: Float32Array.of(0.7) }),
  ];
});
unaryCases.push(
  dense('log of 0 and below', [[3]], 'exact', log, { a: Float32Array.of(0, -1, 1) }),
  dense('exp out of range', [[2]], 'exact', exp, { a: Float32Array.of(200, -200) }),
  dense('affine', [[3, 23]], 1e-7, (a) => affine(a, { scale: -1.5, offset: 0.25 })),
  dense(
    'swiglu',
    [
      [3, 37],
      [3, 37],
    ],
    1e-6,
    swiglu,
  ),
  dense('swiglu far out', [[4], [4]], 1e-6, swiglu, {
    a: Float32Array.of(-200, 200, -20, 0),
    b: Float32Array.of(1, 1, 1, 1),
  }),
);

const reduceCases: OpCase[] = Object.entries({ sum, mean, max }).flatMap(([name, op]) => [
  dense(`${name} last axis`, [[5, 37]], 1e-6, (a) => op(a, { axes: [-1] })),
  dense(`${name} first axis`, [[5, 37]], 1e-6, (a) => op(a, { axes: [0], keepDims: true })),
  dense(`${name} outer and inner`, [[3, 5, 7]], 1e-6, (a) => op(a, { axes: [0, 2] })),
  dense(`${name} everything`, [[2, 3, 11]], 1e-6, (a) => op(a)),
  dense(`${name} of one`, [[1]], 'exact', (a) => op(a, { axes: [0] })),
]);
reduceCases.push(
  dense('argmax', [[5, 41]], 'exact', argmax),
  dense('argmax ties', [[2, 6]], 'exact', argmax, { a: Float32Array.of(1, 3, 3, 0, 3, 2, -1, -1, -1, -1, -1, -1) }),
  dense('argmax of −infinity', [[1, 3]], 'exact', argmax, { a: Float32Array.of(-Infinity, -Infinity, -1e30) }),
  dense('softmax', [[2, 3, 29]], 1e-6, softmax),
  dense('softmax of one', [[3, 1]], 'exact', softmax),
  dense('softmax large and −infinity', [[2, 4]], 1e-6, softmax, {
    a: Float32Array.of(1000, 999, -Infinity, 0, -1000, -1000, -1001, -Infinity),
  }),
);

const normCases: OpCase[] = [
  dense('rmsNorm', [[2, 3, 37], [37]], 2e-6, (x, w) => rmsNorm(x, w, { epsilon: 1e-5 })),
  dense('rmsNorm one channel', [[3, 1], [1]], 2e-6, (x, w) => rmsNorm(x, w, { epsilon: 1e-6 })),
  dense('rmsNorm zero row', [[1, 8], [8]], 'exact', (x, w) => rmsNorm(x, w, { epsilon: 1e-6 }), {
    a: new Float32Array(8),
  }),
  dense('layerNorm', [[5, 67], [67], [67]], 2e-6, (x, w, b) => layerNorm(x, w, b, { epsilon: 1e-5 })),
  dense('layerNorm far from zero', [[2, 32], [32], [32]], 1e-4, (x, w, b) => layerNorm(x, w, b, { epsilon: 1e-5 }), {
    a: gaussian(5, [2, 32]).map((x) => x + 100),
  }),
];

const weightFormats = [
  'f16',
  'bf16',
  'mxfp4',
  'nvfp4',
  'int4-g32',
  'int4-g32-asym',
  'int8-channel',
  'mxfp8-e4m3',
  'q4_0',
  'q8_0',
];

const embeddingCases: OpCase[] = [
  ...[undefined, ...weightFormats].map((format): OpCase => {
    const shape = [11, 64];
    return {
      name: `embedding ${format ?? 'dense'}`,
      tolerance: 'exact',
      build(g) {
        const table = g.param('table', format ? packed(shape, parseFormat(format)) : f32(shape));
        g.output('y', embedding(table, g.input('ids', i32([2, 3]))));
      },
      params: { table: format ? packedTensor(1, shape, format) : tensorF32(shape, gaussian(1, shape)) },
      runs: [{ ids: Int32Array.of(0, 10, 5, 5, 1, 9) }],
    };
  }),
  {
    name: 'embedding odd width',
    tolerance: 'exact',
    build: (g) => void g.output('y', embedding(g.input('table', f32([3, 7])), g.input('ids', i32([1])))),
    runs: [{ table: gaussian(2, [3, 7]), ids: Int32Array.of(2) }],
  },
];

const inverseFrequencies = (half: number) => Float32Array.from({ length: half }, (_, i) => 10000 ** (-i / half));
const ropeCases: OpCase[] = (['half', 'interleaved'] as const).flatMap((style) =>
  [
    { D: 8, half: 4, magnitude: 1 },
    { D: 10, half: 3, magnitude: 1 },
    { D: 6, half: 3, magnitude: 1.25 },
    { D: 64, half: 32, magnitude: 1 },
  ].map(
    ({ D, half, magnitude }): OpCase => ({
      name: `rope ${style}, ${2 * half} of ${D} dimensions, magnitude ${magnitude}`,
      tolerance: 2e-6,
      build(g) {
        const x = g.input('x', f32([2, 3, 5, D]));
        const table = g.constant(tensorF32([half], inverseFrequencies(half)));
        g.output('y', rope(x, g.input('positions', i32([2, 3])), table, { style, magnitude }));
      },
      runs: [{ x: gaussian(1, [2, 3, 5, D]), positions: Int32Array.of(0, 1, 2, 7, 500, 2047) }],
    }),
  ),
);

function attentionCase(
  name: string,
  { B, T, S, H, G, D }: Record<'B' | 'T' | 'S' | 'H' | 'G' | 'D', number>,
  options: Omit<AttentionOptions, 'start'>,
  starts: readonly number[] = [],
): OpCase {
  const data: Data = { q: gaussian(1, [B, T, H, D]), k: gaussian(2, [B, S, G, D]), v: gaussian(3, [B, S, G, D]) };
  return {
    name: `attention ${name}`,
    tolerance: 3e-6,
    build(g) {
      const [q, k, v] = [
        g.input('q', f32([B, T, H, D])),
        g.input('k', f32([B, S, G, D])),
        g.input('v', f32([B, S, G, D])),
      ];
      const start = starts.length > 0 ? { start: g.input('start', i32([1])) } : {};
      g.output('y', attention(q, k, v, { ...options, ...start }));
    },
    runs: starts.length > 0 ? starts.map((s) => ({ ...data, start: Int32Array.of(s) })) : [data],
  };
}

const attentionCases: OpCase[] = [
  attentionCase('full, cross lengths', { B: 1, T: 3, S: 7, H: 2, G: 2, D: 5 }, {}),
  attentionCase('causal', { B: 2, T: 13, S: 13, H: 3, G: 3, D: 8 }, { causal: true }),
  attentionCase('causal grouped', { B: 2, T: 5, S: 5, H: 6, G: 2, D: 16 }, { causal: true, scale: 0.3 }),
  attentionCase('multi-query', { B: 1, T: 4, S: 4, H: 5, G: 1, D: 3 }, { causal: true }),
  attentionCase('window', { B: 1, T: 17, S: 17, H: 2, G: 1, D: 8 }, { causal: true, window: 4 }),
  attentionCase('window of one', { B: 1, T: 5, S: 5, H: 1, G: 1, D: 4 }, { causal: true, window: 1 }),
  attentionCase('window beyond the length', { B: 1, T: 5, S: 5, H: 1, G: 1, D: 4 }, { causal: true, window: 64 }),
  attentionCase('one query, one key', { B: 1, T: 1, S: 1, H: 1, G: 1, D: 1 }, { causal: true }),
  attentionCase('cache, one query', { B: 2, T: 1, S: 9, H: 4, G: 2, D: 8 }, { causal: true }, [0, 3, 8]),
  attentionCase('cache, several queries', { B: 1, T: 4, S: 11, H: 2, G: 1, D: 6 }, { causal: true }, [0, 5, 7]),
  attentionCase('cache with window', { B: 1, T: 3, S: 12, H: 2, G: 2, D: 8 }, { causal: true, window: 4 }, [0, 2, 9]),
  attentionCase('more tokens than a tile', { B: 1, T: 70, S: 70, H: 2, G: 1, D: 32 }, { causal: true }),
  attentionCase('long, windowed', { B: 1, T: 131, S: 131, H: 1, G: 1, D: 16 }, { causal: true, window: 33 }),
];

const cacheCases: OpCase[] = [
  {
    name: 'cacheWrite keeps what earlier runs wrote',
    tolerance: 'exact',
    build(g) {
      const cache = g.state('cache', f32([2, 6, 2, 3]));
      g.output('y', cacheWrite(cache, g.input('x', f32([2, 2, 2, 3])), g.input('start', i32([1]))));
    },
    runs: [0, 2, 4, 1].map((s) => ({ x: gaussian(s + 1, [2, 2, 2, 3]), start: Int32Array.of(s) })),
  },
  {
    name: 'cacheWrite and attention, token by token',
    tolerance: 3e-6,
    build(g) {
      const start = g.input('start', i32([1]));
      const k = cacheWrite(g.state('k', f32([1, 4, 1, 8])), g.input('newK', f32([1, 1, 1, 8])), start);
      const v = cacheWrite(g.state('v', f32([1, 4, 1, 8])), g.input('newV', f32([1, 1, 1, 8])), start);
      g.output('y', attention(g.input('q', f32([1, 1, 2, 8])), k, v, { causal: true, start }));
    },
    runs: [0, 1, 2, 3].map((s) => ({
      start: Int32Array.of(s),
      newK: gaussian(10 + s, [8]),
      newV: gaussian(20 + s, [8]),
      q: gaussian(30 + s, [16]),
    })),
  },
];

const matmulCases: OpCase[] = [
  dense(
    'matmul 1×1×1',
    [
      [1, 1],
      [1, 1],
    ],
    'exact',
    (a, b) => matmul(a, b),
  ),
  dense(
    'matmul primes',
    [
      [7, 37],
      [37, 11],
    ],
    2e-6,
    (a, b) => matmul(a, b),
  ),
  dense(
    'matmul one row',
    [
      [1, 67],
      [67, 129],
    ],
    2e-6,
    (a, b) => matmul(a, b),
  ),
  dense(
    'matmul one column',
    [
      [19, 5],
      [5, 1],
    ],
    2e-6,
    (a, b) => matmul(a, b),
  ),
  dense(
    'matmul K 1',
    [
      [9, 1],
      [1, 9],
    ],
    1e-7,
    (a, b) => matmul(a, b),
  ),
  dense(
    'matmul linear layer',
    [
      [2, 3, 37],
      [13, 37],
    ],
    2e-6,
    (a, b) => matmul(a, b, { transposeB: true }),
  ),
  dense(
    'matmul transposed a',
    [
      [37, 5],
      [37, 6],
    ],
    2e-6,
    (a, b) => matmul(a, b, { transposeA: true }),
  ),
  dense(
    'matmul both transposed',
    [
      [2, 9, 5],
      [6, 9],
    ],
    2e-6,
    (a, b) => matmul(a, b, { transposeA: true, transposeB: true }),
  ),
  dense(
    'matmul batched',
    [
      [2, 3, 4, 5],
      [2, 3, 5, 7],
    ],
    2e-6,
    (a, b) => matmul(a, b),
  ),
  dense(
    'matmul batched b transposed',
    [
      [3, 4, 9],
      [3, 7, 9],
    ],
    2e-6,
    (a, b) => matmul(a, b, { transposeB: true }),
  ),
  dense(
    'matmul several tiles',
    [
      [33, 130],
      [70, 130],
    ],
    2e-6,
    (a, b) => matmul(a, b, { transposeB: true }),
  ),
];

function packedMatmulCase(name: string, aShape: Shape, N: number, weight: string, activation?: string): OpCase {
  const K = aShape[aShape.length - 1];
  return {
    name: `matmul ${name}, weight ${weight}${activation ? `, activations ${activation}` : ''}`,
    tolerance: 3e-6,
    build(g) {
      const a = g.input('a', f32(aShape));
      const w = g.param('w', packed([N, K], parseFormat(weight)));
      g.output('y', matmul(activation ? quantize(a, parseFormat(activation)) : a, w, { transposeB: true }));
    },
    params: { w: packedTensor(2, [N, K], weight) },
    runs: [{ a: gaussian(1, aShape) }],
  };
}

const packedMatmulCases: OpCase[] = [
  ...weightFormats.flatMap((format) => [
    packedMatmulCase('one row', [1, 64], 5, format),
    packedMatmulCase('several rows', [2, 5, 96], 37, format),
  ]),
  packedMatmulCase('K 37', [3, 37], 7, 'int8-channel'),
  packedMatmulCase('K 37', [3, 37], 7, 'int4-channel'),
  packedMatmulCase('K 256', [3, 256], 5, 'q4_k'),
  packedMatmulCase('K 256', [3, 256], 5, 'q6_k'),
  ...[
    ['mxfp4', 'mxfp4'],
    ['nvfp4', 'nvfp4'],
    ['int8-channel', 'int8-token'],
    ['int4-channel', 'int8-token'],
    ['int4-g32', 'int8-token'],
    ['mxfp4', 'mxfp8-e4m3'],
    ['mxfp8-e4m3', 'mxfp8-e4m3'],
  ].flatMap(([weight, activation]) => [
    packedMatmulCase('one row', [1, 64], 5, weight, activation),
    packedMatmulCase('several rows', [7, 160], 33, weight, activation),
  ]),
];

const quantizeCases: OpCase[] = [
  ...[...weightFormats, 'int8-token', 'int4-g32', 'nvfp4', 'hif4'].map((format) =>
    dense(`quantize ${format}`, [[3, 5, 64]], 'exact', (a) => dequantize(quantize(a, parseFormat(format)))),
  ),
  dense('quantize reshaped', [[6, 32]], 'exact', (a) => {
    const q = reshape(quantize(a, parseFormat('mxfp4')), [2, 3, 32]);
    return dequantize(q);
  }),
  dense('quantize stochastic', [[4, 64]], 'exact', (a) =>
    dequantize(quantize(a, parseFormat('mxfp4-sr'), { seed: 7, stream: 3 })),
  ),
  dense('quantize zeros', [[2, 32]], 'exact', (a) => dequantize(quantize(a, parseFormat('mxfp4'))), {
    a: new Float32Array(64),
  }),
];

const hadamardCases: OpCase[] = [
  ...[1, 2, 8, 32].map((n) => dense(`hadamard blocks of ${n}`, [[3, 96]], 2e-6, (a) => hadamard(a, { blockSize: n }))),
  dense('hadamard one large block', [[2, 256]], 2e-6, (a) => hadamard(a, { blockSize: 256 })),
  dense('hadamard with signs', [[5, 48], [16]], 2e-6, (a, signs) => hadamard(a, { blockSize: 16, signs }), {
    b: Float32Array.from({ length: 16 }, (_, i) => ((i * 7) % 3 === 0 ? -1 : 1)),
  }),
];

const routingCases: OpCase[] = [
  {
    name: 'topK',
    tolerance: 'exact',
    build(g) {
      const { values, indices } = topK(g.input('x', f32([7, 13])), 4);
      g.output('values', values);
      g.output('indices', indices);
    },
    runs: [{ x: gaussian(1, [7, 13]) }],
  },
  {
    name: 'topK ties, all entries',
    tolerance: 'exact',
    build(g) {
      const { values, indices } = topK(g.input('x', f32([2, 5])), 5);
      g.output('values', values);
      g.output('indices', indices);
    },
    runs: [{ x: Float32Array.of(1, 2, 2, 1, 2, -Infinity, 0, -Infinity, 0, 7) }],
  },
  ...[undefined, 'mxfp4', 'nvfp4', 'int8-channel', 'q4_0', 'bf16'].flatMap((format) =>
    [
      [5, 64],
      [5, 2, 64],
    ].map((xShape): OpCase => {
      const shape = [3, 7, 64];
      return {
        name: `expertMatmul ${format ?? 'dense'}, x ${xShape.length}-D`,
        tolerance: 3e-6,
        build(g) {
          const weight = g.param('weight', format ? packed(shape, parseFormat(format)) : f32(shape));
          g.output('y', expertMatmul(g.input('x', f32(xShape)), weight, g.input('indices', i32([5, 2]))));
        },
        params: { weight: format ? packedTensor(1, shape, format) : tensorF32(shape, gaussian(1, shape)) },
        runs: [{ x: gaussian(2, xShape), indices: Int32Array.of(0, 2, 1, 0, 2, 1, 1, 0, 2, 0) }],
      };
    }),
  ),
];

const lossCases: OpCase[] = [
  ...[undefined, 'mxfp4', 'int8-channel', 'q8_0', 'f16'].map((format): OpCase => {
    const shape = [131, 64];
    return {
      name: `crossEntropy ${format ?? 'dense'}`,
      tolerance: 2e-6,
      build(g) {
        const weight = g.param('weight', format ? packed(shape, parseFormat(format)) : f32(shape));
        g.output('nll', crossEntropy(g.input('hidden', f32([7, 64])), weight, g.input('targets', i32([7]))));
      },
      params: { weight: format ? packedTensor(1, shape, format) : tensorF32(shape, gaussian(1, shape)) },
      runs: [{ hidden: gaussian(2, [7, 64]), targets: Int32Array.of(0, 130, -1, 64, 64, -100, 7) }],
    };
  }),
  {
    name: 'crossEntropy odd width, one row',
    tolerance: 2e-6,
    build: (g) =>
      void g.output('nll', crossEntropy(g.input('h', f32([1, 5])), g.input('w', f32([3, 5])), g.input('t', i32([1])))),
    runs: [{ h: gaussian(1, [5]), w: gaussian(2, [15]), t: Int32Array.of(1) }],
  },
  {
    name: 'compareLogits',
    tolerance: 3e-6,
    build: (g) =>
      void g.output(
        'y',
        compareLogits(g.input('p', f32([5, 67])), g.input('q', f32([5, 67])), g.input('targets', i32([5]))),
      ),
    runs: [
      {
        p: gaussian(1, [5, 67], 3),
        q: gaussian(1, [5, 67], 3).map((x, i) => x + 0.1 * Math.sin(i)),
        targets: integers(3, [5], 0, 67).map((t, i) => (i === 2 ? -1 : t)),
      },
    ],
  },
];

/** Every op, awkwardly. */
export const opCases: readonly OpCase[] = [
  ...layoutCases,
  ...arithmeticCases,
  ...unaryCases,
  ...reduceCases,
  ...normCases,
  ...embeddingCases,
  ...ropeCases,
  ...attentionCases,
  ...cacheCases,
  ...matmulCases,
  ...packedMatmulCases,
  ...quantizeCases,
  ...hadamardCases,
  ...routingCases,
  ...lossCases,
];
