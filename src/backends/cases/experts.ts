// Rows sorted by expert, and the gradient of experts' weights.

import { expertWeightGradient } from '../../graph/ops/expert-matmul.ts';
import { sortByExpert } from '../../graph/ops/sort-by-expert.ts';
import { f32, i32 } from '../../graph/value-type.ts';
import { gaussian, integers, type OpCase } from '../op-case.ts';

const sorted = (name: string, experts: number, block: number, indices: Int32Array, k: number): OpCase => ({
  name: `sortByExpert ${name}`,
  tolerance: 'exact',
  build(g) {
    const found = sortByExpert(g.input('indices', i32([indices.length / k, k])), { experts, block });
    for (const [label, value] of Object.entries(found)) g.output(label, value);
  },
  runs: [{ indices }],
});

const gradient = (name: string, shape: readonly number[], [N, k, M, E]: readonly number[]): OpCase => ({
  name: `expertWeightGradient ${name}`,
  tolerance: 2e-6,
  build(g) {
    const [x, dy] = [g.input('x', f32(shape)), g.input('dy', f32([N, k, M]))];
    g.output('dw', expertWeightGradient(x, dy, g.input('indices', i32([N, k])), E));
  },
  runs: [{ x: gaussian(1, shape), dy: gaussian(2, [N, k, M]), indices: integers(3, [N, k], 0, E - 1) }],
});

export const expertCases: OpCase[] = [
  sorted('of 3, block 4', 3, 4, Int32Array.of(2, 0, 0, 1, 2, 2, 2, 0), 2),
  sorted('where most have no rows', 7, 32, new Int32Array(33).fill(5), 1),
  sorted('block 1', 4, 1, integers(1, [9, 3], 0, 4), 3),
  sorted('many', 16, 32, integers(2, [300, 4], 0, 16), 4),
  gradient('of shared rows', [37, 20], [37, 2, 9, 5]),
  gradient('of rows of their own', [130, 1, 33], [130, 1, 70, 3]),
];
