// reshape, transpose, slice, concat.

import { affine } from '../../graph/ops/affine.ts';
import { concat, reshape, slice, transpose } from '../../graph/ops/layout.ts';
import type { OpCase } from '../op-case.ts';
import { dense } from './common.ts';

export const layoutCases: OpCase[] = [
  dense('reshape of an intermediate', [[3, 5, 2]], 'exact', (a) => reshape(affine(a, { scale: 2 }), [5, -1])),
  dense('reshape of an input', [[6]], 'exact', (a) => reshape(a, [2, 3])),
  dense('transpose 2-D', [[7, 5]], 'exact', (a) => transpose(a, [1, 0])),
  ...[
    [16, 4],
    [37, 51],
    [66, 130],
    [1, 9],
    [9, 1],
    [3, 64],
  ].map((shape) => dense(`transpose [${shape}]`, [shape], 'exact', (a) => transpose(a, [1, 0]))),
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
