// gramUpdate: sums of outer products over several runs, triangle and whole, for one matrix and for experts.

import { affine } from '../../graph/ops/affine.ts';
import { mul } from '../../graph/ops/arithmetic.ts';
import { gramUpdate } from '../../graph/ops/gram.ts';
import { f32, i32 } from '../../graph/value-type.ts';
import type { Shape } from '../../tensor/shape.ts';
import { tensorF32 } from '../../tensor/tensor.ts';
import { gaussian, integers, type OpCase } from '../op-case.ts';

/** 1 on and above the diagonal: what lies below is not defined. */
const triangle = (K: number) =>
  tensorF32(
    [K, K],
    Float32Array.from({ length: K * K }, (_, i) => (i % K >= Math.floor(i / K) ? 1 : 0)),
  );

function gramCase(name: string, shape: Shape, options: { cross?: boolean; slots?: number; experts?: number }): OpCase {
  const { cross = false, slots = 0, experts = 0 } = options;
  const K = shape[shape.length - 1];
  const route: Shape = [shape[0], slots];
  const run = (seed: number) => ({
    a: gaussian(seed, shape),
    ...(cross && { b: gaussian(seed + 1, shape) }),
    ...(slots && { indices: integers(seed + 2, route, 0, experts) }),
  });
  return {
    name: `gramUpdate ${name}`,
    tolerance: 2e-6,
    accumulates: true,
    build(g) {
      const a = g.input('a', f32(shape));
      const b = cross ? g.input('b', f32(shape)) : undefined;
      const indices = slots ? g.input('indices', i32(route)) : undefined;
      const sum = gramUpdate(g.state('gram', f32(slots ? [experts, K, K] : [K, K])), a, { b, indices });
      g.output('y', cross ? affine(sum, { scale: 1 }) : mul(sum, g.constant(triangle(K))));
    },
    runs: [run(1), run(11)],
  };
}

export const gramCases: OpCase[] = [
  gramCase('one row, one feature', [1, 1], {}),
  gramCase('odd sizes', [7, 13], {}),
  gramCase('several depth blocks and threads', [1031, 67], {}),
  gramCase('more columns than a block', [37, 283], {}),
  gramCase('cross', [67, 45], { cross: true }),
  gramCase('cross, several depth blocks', [1031, 19], { cross: true }),
  gramCase('experts, one row for all choices', [41, 21], { slots: 2, experts: 5 }),
  gramCase('experts, a row for each choice', [41, 2, 21], { slots: 2, experts: 3 }),
  gramCase('experts, cross, one expert', [700, 1, 9], { slots: 1, experts: 1, cross: true }),
  gramCase('experts that see nothing', [3, 33], { slots: 1, experts: 16 }),
];
