// Rows cut at their quantiles: ties at the bounds, few and many values, infinities; products with sparse rows.

import { sparseMatmul, splitOutliers, spreadSparse } from '../../graph/ops/outliers.ts';
import { f32, i32 } from '../../graph/value-type.ts';
import { elementCount, type Shape } from '../../tensor/shape.ts';
import { gaussian, integers, type OpCase } from '../op-case.ts';

const split = (name: string, shape: Shape, quantile: number, x = gaussian(1, shape)): OpCase => ({
  name: `splitOutliers ${name}`,
  tolerance: 'exact',
  build(g) {
    const { clamped, residual } = splitOutliers(g.input('x', f32(shape)), quantile);
    for (const [label, value] of Object.entries({ clamped, ...residual })) g.output(label, value);
    g.output('spread', spreadSparse(residual, shape[shape.length - 1]));
  },
  runs: [{ x }],
});

const whole = (shape: Shape) => Float32Array.from({ length: elementCount(shape) }, (_, i) => ((i * 7) % 11) - 5);

export const outlierCases: OpCase[] = [
  split('0.99', [5, 3, 200], 0.99),
  split('0.97, K 333', [4, 333], 0.97),
  split('0.999, K 2000', [3, 2000], 0.999),
  split('0.9, ties', [3, 64], 0.9, whole([3, 64])),
  split('one value for all', [2, 40], 0.95, new Float32Array(80).fill(-2)),
  split('0.75, K 4, infinities', [3, 4], 0.75, Float32Array.of(1, -Infinity, 3, 2, 0, 5, Infinity, -1, -3, -2, -1, -4)),
  ...[
    [37, 5, 64, 48],
    [3, 1, 7, 5],
  ].map(
    ([T, S, K, N]): OpCase => ({
      name: `sparseMatmul [${T}, ${S}] of ${K}, N ${N}`,
      tolerance: 2e-6,
      build(g) {
        const residual = { values: g.input('values', f32([T, S])), columns: g.input('columns', i32([T, S])) };
        g.output('y', sparseMatmul(residual, g.input('table', f32([K, N]))));
        g.output('spread', spreadSparse(residual, K));
      },
      runs: [{ values: gaussian(1, [T, S]), columns: integers(2, [T, S], 0, K), table: gaussian(3, [K, N]) }],
    }),
  ),
];
