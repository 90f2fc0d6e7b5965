// Rows cut at their quantiles, and products with sparse rows.

import { outlierPlaces, type SplitOutliersAttributes, type SpreadSparseAttributes } from '../../graph/ops/outliers.ts';
import { checkIndex, doubles, type Kernel, numbers, target } from './kernel.ts';

export const splitOutliers: Kernel<SplitOutliersAttributes> = ([x], [clamped, values, columns], { quantile }) => {
  const K = x.shape[x.shape.length - 1];
  const { low, high, most } = outlierPlaces(K, quantile);
  const from = numbers(x);
  target(values).fill(0);
  target(columns).fill(0);
  for (let r = 0; r < from.length / K; r++) {
    const row = from.subarray(r * K, (r + 1) * K);
    const sorted = row.slice().sort();
    const [lo, hi] = [sorted[low], sorted[high]];
    let found = 0;
    for (const [k, v] of row.entries()) {
      const bound = v < lo ? lo : v > hi ? hi : v;
      target(clamped)[r * K + k] = bound;
      if (v === bound || found === most) continue;
      target(values)[r * most + found] = v - bound;
      target(columns)[r * most + found++] = k;
    }
  }
};

export const sparseMatmul: Kernel = ([values, columns, table], [y]) => {
  const [v, at, rows] = [doubles(values), numbers(columns), doubles(table)];
  const [S, [K, N]] = [values.shape[1], table.shape];
  const sums = new Float64Array(target(y).length);
  at.forEach((k, i) => {
    checkIndex('sparseMatmul', `column at position ${i}`, k, 0, K - 1);
    const row = Math.floor(i / S) * N;
    for (let n = 0; n < N; n++) sums[row + n] += v[i] * rows[k * N + n];
  });
  target(y).set(sums);
};

export const spreadSparse: Kernel<SpreadSparseAttributes> = ([values, columns], [y], { columns: K }) => {
  const [v, at] = [doubles(values), numbers(columns)];
  const S = values.shape[values.shape.length - 1];
  target(y).fill(0);
  at.forEach((k, i) => {
    checkIndex('spreadSparse', `column at position ${i}`, k, 0, K - 1);
    target(y)[Math.floor(i / S) * K + k] += v[i];
  });
};
