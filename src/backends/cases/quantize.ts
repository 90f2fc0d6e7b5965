// quantize, dequantize and the Hadamard transform.

import type { FixedScale } from '../../formats/fixed-scale.ts';
import { parseFormat } from '../../formats/registry.ts';
import { hadamard } from '../../graph/ops/hadamard.ts';
import { reshape } from '../../graph/ops/layout.ts';
import { matmul } from '../../graph/ops/matmul.ts';
import { dequantize, quantize, quantizeWithBits, selectBits } from '../../graph/ops/quantize.ts';
import { f32, i32 } from '../../graph/value-type.ts';
import { gaussian, type OpCase } from '../op-case.ts';
import { dense, weightFormats } from './common.ts';

export const quantizeCases: OpCase[] = [
  ...[...weightFormats, 'int8-token', 'hif4'].map((format) =>
    dense(`quantize ${format}`, [[3, 5, 64]], 'exact', (a) => dequantize(quantize(a, parseFormat(format)))),
  ),
  dense('quantize reshaped', [[6, 32]], 'exact', (a) => {
    const q = reshape(quantize(a, parseFormat('mxfp4')), [2, 3, 32]);
    return dequantize(q);
  }),
  dense('quantize stochastic', [[4, 64]], 'exact', (a) =>
    dequantize(quantize(a, parseFormat('mxfp4-sr'), { seed: 7, stream: 3 })),
  ),
  // all steps of one graph: codes must change with the step, and be those of the reference
  ...['mxfp4-sr', 'mxfp4-fourthirds-sr', 'nvfp4-mseden', 'nvfp4-sr', 'mxfp8-e5m2-sr', 'int8-token-sr'].map(
    (format): OpCase => ({
      name: `quantize ${format} by steps`,
      tolerance: 'exact',
      build(g) {
        const step = g.input('step', i32([1]));
        g.output(
          'y',
          dequantize(quantize(g.input('x', f32([5, 64])), parseFormat(format), { seed: 7, stream: 3, step })),
        );
      },
      runs: [0, 1, 2, 1_000_000].map((t) => ({ x: gaussian(1, [5, 64]), step: Int32Array.of(t) })),
    }),
  ),
  // rows of deviations from 2^-20 to 2^20, so that mantissas of scales vary
  ...[
    'mxfp4-quest',
    'mxfp4-quest-tozero',
    'mxfp4-questnearest',
    'fp4-e2m1-g32-quest',
    'mxfp4-fourthirds',
    'mxfp4-fourthirds-tozero',
    'mxfp4-fourthirds-sr',
    'mxfp4-tozero',
    'nvfp4-46',
    'nvfp4-mseden',
  ].flatMap((format) => [
    dense(`quantize ${format}`, [[41, 64]], 'exact', (a) => dequantize(quantize(a, parseFormat(format))), {
      a: gaussian(1, [41, 64]).map((x, i) => x * 2 ** ((i >> 6) - 20) * (1 + (i >> 6) / 41)),
    }),
  ]),
  // multiples of an eighth: magnitudes on levels, midpoints and maxima that are powers of two
  ...['mxfp4', 'mxfp4-tozero', 'mxfp4-fourthirds', 'mxfp4-fourthirds-tozero', 'mxfp4-fourthirds-sr', 'mxfp4-quest'].map(
    (format) =>
      dense(
        `quantize ${format}, ties and tiny numbers`,
        [[96, 32]],
        'exact',
        (a) => dequantize(quantize(a, parseFormat(format))),
        {
          a: Float32Array.from(
            { length: 96 * 32 },
            (_, i) =>
              (((i * 37) % 97) - 48) *
              2 ** ([-3, 0, -120, -132, -140, 100][(i >> 5) % 6] ?? 0) *
              (i % 64 < 32 ? 1 : 4 / 3),
          ),
        },
      ),
  ),
  ...['mxfp4-quest', 'mxfp4', 'mxfp4-fourthirds-sr', 'int4-g32', 'nvfp4', 'fp8-e4m3-tensor'].map(
    (format): OpCase => ({
      name: `quantize ${format} with bits`,
      tolerance: 'exact',
      build(g) {
        const { packed, bits } = quantizeWithBits(g.input('x', f32([3, 2, 96])), parseFormat(format), 5.5);
        g.output('y', dequantize(packed));
        g.output('bits', bits);
        g.output('kept', selectBits(g.input('dy', f32([3, 2, 96])), bits));
      },
      runs: [{ x: gaussian(1, [3, 2, 96]), dy: gaussian(2, [3, 2, 96]) }],
    }),
  ),
  dense('quantize zeros', [[2, 32]], 'exact', (a) => dequantize(quantize(a, parseFormat('mxfp4'))), {
    a: new Float32Array(64),
  }),
];

/** Values within, at the edge of and far beyond what the scale covers, halves of steps among them. */
function aroundScale(seed: number, shape: readonly number[], scale: number): Float32Array {
  const beyond = [127, 127.5, -128, 128, 448, -500, 3e4, -1e30, 3.4e38, -0, 0.5, -1.5, 2.5].map((v) => v * scale);
  return gaussian(seed, shape, 60 * scale)
    .map((v, i) => (i % 5 === 0 ? Math.round(2 * (v / scale)) * (scale / 2) : v))
    .map((v, i) => (i % 7 === 3 ? Math.min(Math.max(beyond[i % beyond.length], -3.4e38), 3.4e38) : v));
}

const fixedScales: [name: string, format: string, columns: number, fixed: FixedScale][] = [
  ['', 'int8-tensor', 64, { scale: Math.fround(0.0371) }],
  [', K 37', 'int8-tensor', 37, { scale: Math.fround(0.0371) }],
  [', a power of two', 'int8-tensor', 64, { scale: 2 ** -5 }],
  [', tiny', 'int8-tensor', 64, { scale: 2 ** -100 }],
  [', large', 'int8-tensor', 64, { scale: 2 ** 100 }],
  [', half range', 'int8-tensor-half', 64, { scale: Math.fround(0.0371) }],
  ['', 'int4-tensor', 64, { scale: Math.fround(1.7) }],
  ['', 'fp8-e4m3-tensor', 64, { scale: Math.fround(0.0123) }],
  [', K 37', 'fp8-e4m3-tensor', 37, { scale: Math.fround(0.0123) }],
  ['', 'fp8-e5m2-tensor', 64, { scale: Math.fround(3e-5) }],
  ['', 'int8-tensor-asym', 64, { scale: Math.fround(0.0371), zeroPoint: 31 }],
  [', zero at the edge', 'int8-tensor-asym', 37, { scale: Math.fround(0.0371), zeroPoint: 255 }],
  ['', 'int8-tensor-sr', 64, { scale: Math.fround(0.0371) }],
];

export const fixedScaleCases: OpCase[] = [
  ...fixedScales.map(([name, format, columns, fixed]) =>
    dense(
      `quantize ${format} with a fixed scale${name}`,
      [[23, columns]],
      'exact',
      (a) => dequantize(quantize(a, parseFormat(format), { fixed, seed: 5, stream: 1 })),
      { a: aroundScale(4, [23, columns], fixed.scale) },
    ),
  ),
  ...fixedScales
    .filter(([name]) => name === '')
    .map(([, format, columns, fixed]) =>
      dense(
        `matmul of ${format} with a fixed scale`,
        [
          [9, columns],
          [11, columns],
        ],
        2e-6,
        (a, b) =>
          matmul(quantize(a, parseFormat(format), { fixed }), quantize(b, parseFormat('int8-channel')), {
            transposeB: true,
          }),
      ),
    ),
];

export const hadamardCases: OpCase[] = [
  ...[1, 2, 8, 32].map((n) => dense(`hadamard blocks of ${n}`, [[3, 96]], 2e-6, (a) => hadamard(a, { blockSize: n }))),
  dense('hadamard one large block', [[2, 256]], 2e-6, (a) => hadamard(a, { blockSize: 256 })),
  dense('hadamard with signs', [[5, 48], [16]], 2e-6, (a, signs) => hadamard(a, { blockSize: 16, signs }), {
    b: Float32Array.from({ length: 16 }, (_, i) => ((i * 7) % 3 === 0 ? -1 : 1)),
  }),
];
