// Matrix products: dense shapes that no tile divides, then packed weights, then both operands packed.

import { parseFormat } from '../../formats/registry.ts';
import { matmul } from '../../graph/ops/matmul.ts';
import { quantize } from '../../graph/ops/quantize.ts';
import { f32, packed } from '../../graph/value-type.ts';
import type { Shape } from '../../tensor/shape.ts';
import { gaussian, type OpCase } from '../op-case.ts';
import { dense, packedTensor, weightFormats } from './common.ts';

export const matmulCases: OpCase[] = [
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
    'matmul split over threads',
    [
      [67, 256],
      [256, 301],
    ],
    2e-6,
    (a, b) => matmul(a, b),
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

export const packedMatmulCases: OpCase[] = [
  ...weightFormats.flatMap((format) => [
    packedMatmulCase('one row', [1, 64], 5, format),
    packedMatmulCase('several rows', [2, 5, 96], 37, format),
  ]),
  packedMatmulCase('split over threads', [67, 256], 301, 'mxfp4'),
  packedMatmulCase('split over threads', [1, 512], 1031, 'int4-g32'),
  packedMatmulCase('split over threads', [67, 256], 301, 'int8-channel', 'int8-token'),
  {
    name: 'matmul batched packed weight',
    tolerance: 3e-6,
    build(g) {
      const w = g.param('w', packed([3, 5, 64], parseFormat('mxfp4')));
      const a = g.input('a', f32([3, 4, 64]));
      g.output('dense a', matmul(a, w, { transposeB: true }));
      g.output('packed a', matmul(quantize(a, parseFormat('mxfp4')), w, { transposeB: true }));
    },
    params: { w: packedTensor(2, [3, 5, 64], 'mxfp4') },
    runs: [{ a: gaussian(1, [3, 4, 64]) }],
  },
  dense(
    'matmul packed activations, dense weight',
    [
      [5, 64],
      [7, 64],
    ],
    3e-6,
    (a, b) => matmul(quantize(a, parseFormat('mxfp4')), b, { transposeB: true }),
  ),
  dense(
    'matmul packed activations, dense matrix',
    [
      [2, 5, 64],
      [64, 7],
    ],
    3e-6,
    (a, b) => matmul(quantize(a, parseFormat('int8-token')), b),
  ),
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
