// Ops over the last axis: argmax, softmax, rmsNorm, layerNorm.
//
// 32 … 256 threads (four numbers a thread or more) compute one row; every thread takes every threads-th number, and sums
// and maxima over the row are combined by halving in workgroup memory (4 or 8 bytes a thread). softmax and argmax: a
// workgroup has one row, which is read again for each pass and stays in the cache. Norms: a workgroup of 256 threads has
// as many rows as fit, whose numbers stay in registers; with subgroups of one size sums go through them.

import type { NormAttributes } from '../../../graph/ops/norm.ts';
import { forEachGroup, rowThreads } from '../entry.ts';
import { dense, type KernelTable, type Names, type OpKernel, read, rowsAndColumns, write } from '../kernel.ts';
import { fixedSubgroup, largestSource, rowTotalSource, totalSource } from '../wgsl/combine.ts';
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

const groupThreads = 256;

const norm = (centered: boolean): OpKernel => ({
  encode({ node, inputs, outputs, gpu }) {
    const { epsilon } = node.attributes as unknown as NormAttributes;
    const [x, weight, y] = [dense(inputs, 0), dense(inputs, 1), dense(outputs, 0)];
    const [rows, C] = rowsAndColumns(x.shape);
    const threads = rowThreads(C);
    const side = groupThreads / threads;
    const subgroup = fixedSubgroup(gpu);
    const bindings = { x: read(x), weight: read(weight), y: write(y) };
    const held = Array.from({ length: Math.ceil(C / threads) }, (_, k) => k);
    /** The statement for each of the thread's channels, where the row has it. */
    const each = (statement: (k: number) => string) =>
      held
        .map((k) => ((k + 1) * threads <= C ? statement(k) : `if (c + ${k * threads}u < ${C}u) { ${statement(k)} }`))
        .join('\n  ');
    const body = (n: Names) => `let c = thread % ${threads}u;
  let row = item * ${side}u + thread / ${threads}u;
  let first = min(row, words.rows - 1u) * ${C}u + c;
  ${held.map((k) => `var d${k} = 0.0;`).join(' ')}
  ${each((k) => `d${k} = ${n.x}[first + ${k * threads}u];`)}
  ${
    centered
      ? `let mean = rowTotal(thread, ${held.map((k) => `d${k}`).join(' + ')}) / ${C}.0;
  ${each((k) => `d${k} -= mean;`)}`
      : ''
  }
  let squares = rowTotal(thread, ${held.map((k) => `d${k} * d${k}`).join(' + ')});
  let scale = inverseSqrt(squares / ${C}.0 + words.epsilon);
  if (row >= words.rows) { return; }
  ${each(
    (k) =>
      `${n.y}[first + ${k * threads}u] = d${k} * scale * ${n.weight}[c + ${k * threads}u]${centered ? ` + ${n.bias}[c + ${k * threads}u]` : ''};`,
  )}`;
    return [
      {
        bindings: centered ? { ...bindings, bias: read(dense(inputs, 2)) } : bindings,
        enable: subgroup === undefined ? [] : ['subgroups'],
        words: { rows, epsilon: { f32: epsilon } },
        ...forEachGroup(
          Math.ceil(rows / side),
          groupThreads,
          body,
          rowTotalSource(threads, groupThreads, 'f32', subgroup),
        ),
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
