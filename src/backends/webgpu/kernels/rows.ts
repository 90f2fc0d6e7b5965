// Ops over the last axis: argmax, softmax, rmsNorm, layerNorm.
//
// A workgroup of 32 … 256 threads (four numbers a thread or more) computes one row; every thread takes every threads-th
// number, and sums and maxima over the row are combined by halving in workgroup memory (4 or 8 bytes a thread). Rows
// are read again for each pass: they stay in the cache. No features.

import type { NormAttributes } from '../../../graph/ops/norm.ts';
import { forEachGroup, rowThreads } from '../entry.ts';
import { dense, type KernelTable, type Names, type OpKernel, read, rowsAndColumns, write } from '../kernel.ts';
import { largestSource, totalSource } from '../wgsl/combine.ts';
import { mathSource } from '../wgsl/math.ts';

const each = (threads: number, body: string) => `for (var c = thread; c < words.C; c += ${threads}u) { ${body} }`;

const softmax: OpKernel = {
  encode({ inputs, outputs }) {
    const [x, y] = [dense(inputs, 0), dense(outputs, 0)];
    const [rows, C] = rowsAndColumns(x.shape);
    const threads = rowThreads(C);
    const prelude = mathSource + largestSource(threads) + totalSource(threads);
    const body = (n: Names) => `let first = item * words.C;
  var most = -infinity();
  ${each(threads, `most = larger(most, ${n.x}[first + c]);`)}
  most = largest(thread, most);
  var sum = 0.0;
  ${each(threads, `sum += expOf(${n.x}[first + c] - most);`)}
  sum = total(thread, sum);
  ${each(threads, `${n.y}[first + c] = expOf(${n.x}[first + c] - most) / sum;`)}`;
    return [{ bindings: { x: read(x), y: write(y) }, words: { C }, ...forEachGroup(rows, threads, body, prelude) }];
  },
};

const norm = (centered: boolean): OpKernel => ({
  encode({ node, inputs, outputs }) {
    const { epsilon } = node.attributes as unknown as NormAttributes;
    const [x, weight, y] = [dense(inputs, 0), dense(inputs, 1), dense(outputs, 0)];
    const [rows, C] = rowsAndColumns(x.shape);
    const threads = rowThreads(C);
    const bindings = { x: read(x), weight: read(weight), y: write(y) };
    const body = (n: Names) => `let first = item * words.C;
  var mean = 0.0;
  ${centered ? `${each(threads, `mean += ${n.x}[first + c];`)} mean = total(thread, mean) / f32(words.C);` : ''}
  var squares = 0.0;
  ${each(threads, `let d = ${n.x}[first + c] - mean; squares += d * d;`)}
  let scale = inverseSqrt(total(thread, squares) / f32(words.C) + words.epsilon);
  ${each(
    threads,
    `${n.y}[first + c] = (${n.x}[first + c] - mean) * scale * ${n.weight}[c]${centered ? ` + ${n.bias}[c]` : ''};`,
  )}`;
    return [
      {
        bindings: centered ? { ...bindings, bias: read(dense(inputs, 2)) } : bindings,
        words: { C, epsilon: { f32: epsilon } },
        ...forEachGroup(rows, threads, body, totalSource(threads)),
      },
    ];
  },
});

/** Pairs (value, index) combined by halving: the larger value, the lower index on ties. NaN never wins. */
const argmax: OpKernel = {
  encode({ inputs, outputs }) {
    const [x, y] = [dense(inputs, 0), dense(outputs, 0)];
    const [rows, C] = rowsAndColumns(x.shape);
    const threads = rowThreads(C);
    const prelude = `${mathSource}
var<workgroup> values: array<f32, ${threads}>;
var<workgroup> places: array<u32, ${threads}>;
fn wins(value: f32, place: u32, other: f32, otherPlace: u32) -> bool {
  return value > other || (value == other && place < otherPlace);
}`;
    // As in the reference, a NaN in the first place stays: nothing is larger.
    const body = (n: Names) => `let first = item * words.C;
  var best = -infinity();
  var place = words.C;
  ${each(
    threads,
    `let value = ${n.x}[first + c]; if (!isNan(value) && wins(value, c, best, place)) { best = value; place = c; }`,
  )}
  values[thread] = best;
  places[thread] = place;
  for (var half = ${threads / 2}u; half > 0u; half >>= 1u) {
    workgroupBarrier();
    if (thread < half && wins(values[thread + half], places[thread + half], values[thread], places[thread])) {
      values[thread] = values[thread + half];
      places[thread] = places[thread + half];
    }
  }
  if (thread == 0u) { ${n.y}[item] = select(i32(places[0]), 0, isNan(${n.x}[first])); }`;
    return [{ bindings: { x: read(x), y: write(y) }, words: { C }, ...forEachGroup(rows, threads, body, prelude) }];
  },
};

export const rowKernels: KernelTable = { argmax, softmax, rmsNorm: norm(false), layerNorm: norm(true) };
