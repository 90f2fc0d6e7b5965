// Arithmetic with broadcasting, functions of one number, affine, swiglu; also where results go out of range.

import { applyOp } from '../../graph/apply.ts';
import type { Value } from '../../graph/graph.ts';
import { affine } from '../../graph/ops/affine.ts';
import { add, div, mul, sub } from '../../graph/ops/arithmetic.ts';
import { swiglu } from '../../graph/ops/swiglu.ts';
import { exp, log, unaryKinds, unaryOp } from '../../graph/ops/unary.ts';
import { gaussian, type OpCase } from '../op-case.ts';
import { dense } from './common.ts';

const arithmetics = { add, sub, mul, div };
export const arithmeticCases: OpCase[] = Object.entries(arithmetics).flatMap(([name, op]) => [
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
export const unaryCases: OpCase[] = unaryKinds.flatMap((kind) => {
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
