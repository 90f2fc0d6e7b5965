// Reductions, argmax, softmax and norms: odd lengths, ties, infinities, a zero row.

import { layerNorm, rmsNorm } from '../../graph/ops/norm.ts';
import { argmax, max, mean, sum } from '../../graph/ops/reduce.ts';
import { softmax } from '../../graph/ops/softmax.ts';
import { gaussian, type OpCase } from '../op-case.ts';
import { dense } from './common.ts';

export const reduceCases: OpCase[] = Object.entries({ sum, mean, max }).flatMap(([name, op]) => [
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
  dense('softmax wide', [[67, 1031]], 1e-6, softmax),
  dense('softmax of one', [[3, 1]], 'exact', softmax),
  dense('softmax large and −infinity', [[2, 4]], 1e-6, softmax, {
    a: Float32Array.of(1000, 999, -Infinity, 0, -1000, -1000, -1001, -Infinity),
  }),
);

export const normCases: OpCase[] = [
  dense('rmsNorm', [[2, 3, 37], [37]], 2e-6, (x, w) => rmsNorm(x, w, { epsilon: 1e-5 })),
  dense('rmsNorm wide', [[67, 1031], [1031]], 2e-6, (x, w) => rmsNorm(x, w, { epsilon: 1e-5 })),
  dense('rmsNorm one channel', [[3, 1], [1]], 2e-6, (x, w) => rmsNorm(x, w, { epsilon: 1e-6 })),
  dense('rmsNorm zero row', [[1, 8], [8]], 'exact', (x, w) => rmsNorm(x, w, { epsilon: 1e-6 }), {
    a: new Float32Array(8),
  }),
  dense('layerNorm', [[5, 67], [67], [67]], 2e-6, (x, w, b) => layerNorm(x, w, b, { epsilon: 1e-5 })),
  dense('layerNorm far from zero', [[2, 32], [32], [32]], 1e-4, (x, w, b) => layerNorm(x, w, b, { epsilon: 1e-5 }), {
    a: gaussian(5, [2, 32]).map((x) => x + 100),
  }),
];
