// Routing and losses: topK, expertMatmul, crossEntropy, compareLogits.

import { parseFormat } from '../../formats/registry.ts';
import { compareLogits } from '../../graph/ops/compare-logits.ts';
import { crossEntropy } from '../../graph/ops/cross-entropy.ts';
import { expertMatmul } from '../../graph/ops/expert-matmul.ts';
import { topK } from '../../graph/ops/top-k.ts';
import { f32, i32, packed } from '../../graph/value-type.ts';
import { tensorF32 } from '../../tensor/tensor.ts';
import { gaussian, integers, type OpCase } from '../op-case.ts';
import { packedTensor } from './common.ts';

export const routingCases: OpCase[] = [
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
    name: 'topK of many experts',
    tolerance: 'exact',
    build(g) {
      const { values, indices } = topK(g.input('x', f32([67, 128])), 8);
      g.output('values', values);
      g.output('indices', indices);
    },
    // Tenths, so that many entries are equal.
    runs: [{ x: gaussian(1, [67, 128]).map((x) => Math.round(10 * x) / 10) }],
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

export const lossCases: OpCase[] = [
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
    name: 'crossEntropy split over threads',
    tolerance: 2e-6,
    build(g) {
      const [h, w] = [g.input('h', f32([67, 36])), g.input('w', f32([1031, 36]))];
      g.output('nll', crossEntropy(h, w, g.input('t', i32([67]))));
    },
    runs: [{ h: gaussian(1, [67, 36]), w: gaussian(2, [1031, 36]), t: integers(3, [67], -100, 1031) }],
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
