// Rows cut at their quantiles, and products with sparse rows.
//
// splitOutliers: one workgroup of 256 threads a row. The values at the two places of the sorted row are found bit by bit
// on integers that are ordered like the floats: 32 passes count, for both at once, how many values lie below a candidate
// (2 KB of workgroup memory). Then each thread counts the outliers of a stretch of the row and writes them behind those of
// the threads before it. sparseMatmul: one thread a result; spreadSparse: one thread a row of the result's columns, which
// looks through the row's S columns. No features, no atomics.

import { outlierPlaces, type SplitOutliersAttributes } from '../../../graph/ops/outliers.ts';
import { elementCount } from '../../../tensor/shape.ts';
import { embeddingIdError } from '../../data-error-codes.ts';
import { forEachGroup, forEachItem } from '../entry.ts';
import { dense, type KernelTable, type Names, type OpKernel, read, rowsAndColumns, write } from '../kernel.ts';

const threads = 256;

const splitSource = `
var<workgroup> counts: array<vec2u, ${threads}>;
/** An integer that is ordered as the float is. */
fn keyOf(bits: u32) -> u32 { return select(bits | 0x80000000u, ~bits, (bits >> 31u) == 1u); }
fn bitsOf(key: u32) -> u32 { return select(~key, key & 0x7fffffffu, (key >> 31u) == 1u); }
fn total(thread: u32, own: vec2u) -> vec2u {
  counts[thread] = own;
  workgroupBarrier();
  for (var half = ${threads / 2}u; half > 0u; half /= 2u) {
    if (thread < half) { counts[thread] += counts[thread + half]; }
    workgroupBarrier();
  }
  let sum = counts[0];
  workgroupBarrier();
  return sum;
}
`;

const splitOutliers: OpKernel = {
  encode({ node, inputs, outputs }) {
    const x = dense(inputs, 0);
    const [clamped, values, columns] = [0, 1, 2].map((i) => dense(outputs, i));
    const [rows, K] = rowsAndColumns(x.shape);
    const { quantile } = node.attributes as unknown as SplitOutliersAttributes;
    const { low, high, most } = outlierPlaces(K, quantile);
    const body = (n: Names) => `let row = item * words.K;
  let places = vec2u(words.low, words.high);
  var found = vec2u(0u);
  for (var bit = 0x80000000u; bit > 0u; bit >>= 1u) {
    let candidate = found | vec2u(bit);
    var below = vec2u(0u);
    for (var k = thread; k < words.K; k += ${threads}u) {
      let key = keyOf(${n.x}[row + k]);
      below += select(vec2u(0u), vec2u(1u), vec2u(key) < candidate);
    }
    found = select(found, candidate, total(thread, below) <= places);
  }
  let lo = bitcast<f32>(bitsOf(found.x));
  let hi = bitcast<f32>(bitsOf(found.y));
  let stretch = (words.K + ${threads - 1}u) / ${threads}u;
  let first = min(thread * stretch, words.K);
  let end = min(first + stretch, words.K);
  var own = 0u;
  for (var k = first; k < end; k++) {
    let v = bitcast<f32>(${n.x}[row + k]);
    if (v < lo || v > hi) { own++; }
  }
  counts[thread] = vec2u(own, 0u);
  workgroupBarrier();
  var at = 0u;
  for (var j = 0u; j < thread; j++) { at += counts[j].x; }
  for (var k = first; k < end; k++) {
    let v = bitcast<f32>(${n.x}[row + k]);
    var bound = v;
    if (v < lo) { bound = lo; }
    if (v > hi) { bound = hi; }
    ${n.clamped}[row + k] = select(${n.x}[row + k], bitcast<u32>(bound), v < lo || v > hi);
    if ((v < lo || v > hi) && at < words.most) {
      ${n.values}[item * words.most + at] = v - bound;
      ${n.columns}[item * words.most + at] = i32(k);
      at++;
    }
  }
  if (thread == ${threads - 1}u) {
    for (; at < words.most; at++) {
      ${n.values}[item * words.most + at] = 0.0;
      ${n.columns}[item * words.most + at] = 0;
    }
  }`;
    return [
      {
        bindings: { x: read(x, 'u32'), clamped: write(clamped, 'u32'), values: write(values), columns: write(columns) },
        words: { K, low, high, most },
        ...forEachGroup(rows, threads, body, splitSource),
      },
    ];
  },
};

const sparseMatmul: OpKernel = {
  encode({ inputs, outputs }) {
    const [values, columns, table] = [0, 1, 2].map((i) => dense(inputs, i));
    const y = dense(outputs, 0);
    const S = values.shape[1];
    const [K, N] = table.shape;
    const body = (n: Names) => `let row = i / words.N * words.S;
  let column = i % words.N;
  var sum = 0.0;
  for (var j = row; j < row + words.S; j++) {
    let k = ${n.columns}[j];
    if (u32(k) < words.K) { sum += ${n.values}[j] * ${n.table}[u32(k) * words.N + column]; }
    else if (column == 0u) { report(${embeddingIdError}u, k); }
  }
  ${n.y}[i] = sum;`;
    return [
      {
        bindings: { values: read(values), columns: read(columns), table: read(table), y: write(y) },
        words: { S, K, N },
        reports: true,
        ...forEachItem(elementCount(y.shape), body),
      },
    ];
  },
};

const spreadSparse: OpKernel = {
  encode({ inputs, outputs }) {
    const [values, columns, y] = [dense(inputs, 0), dense(inputs, 1), dense(outputs, 0)];
    const [rows, S] = rowsAndColumns(values.shape);
    const K = elementCount(y.shape) / rows;
    const body = (n: Names) => `let row = i / words.K * words.S;
  let column = i % words.K;
  var sum = 0.0;
  for (var j = row; j < row + words.S; j++) {
    let k = ${n.columns}[j];
    if (u32(k) == column) { sum += ${n.values}[j]; }
    if (column == 0u && u32(k) >= words.K) { report(${embeddingIdError}u, k); }
  }
  ${n.y}[i] = sum;`;
    return [
      {
        bindings: { values: read(values), columns: read(columns), y: write(y) },
        words: { S, K },
        reports: true,
        ...forEachItem(elementCount(y.shape), body),
      },
    ];
  },
};

export const outlierKernels: KernelTable = { splitOutliers, sparseMatmul, spreadSparse };
