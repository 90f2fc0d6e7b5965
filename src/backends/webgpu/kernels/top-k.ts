// topK and its gradient.
//
// topK: a workgroup of 32 … 256 threads a row finds one entry after the other, each the first in the order that comes
// after the one before: k passes over the row, combined by halving in workgroup memory (8 bytes a thread). Values move
// as u32. topKBackward: one thread for each element of the result looks through the k indices of its row. No features.

import type { TopKAttributes } from '../../../graph/ops/top-k.ts';
import { elementCount } from '../../../tensor/shape.ts';
import { expertIndexError } from '../../data-error-codes.ts';
import { forEachGroup, forEachItem, rowThreads } from '../entry.ts';
import { dense, type KernelTable, type Names, type OpKernel, read, write } from '../kernel.ts';
import { firstLargestSource } from '../wgsl/combine.ts';

const topK: OpKernel = {
  encode({ node, inputs, outputs }) {
    const { k } = node.attributes as unknown as TopKAttributes;
    const [x, values, indices] = [dense(inputs, 0), dense(outputs, 0), dense(outputs, 1)];
    const [N, E] = x.shape;
    const threads = rowThreads(E);
    const body = (n: Names) => `var last = vec2u(0xffffffffu, 0u);
  for (var j = 0u; j < words.k; j++) {
    var place = nowhere;
    for (var e = thread; e < words.E; e += ${threads}u) {
      let next = placed(bitcast<f32>(${n.x}[item * words.E + e]), e);
      if (isBefore(last, next) && isBefore(next, place)) { place = next; }
    }
    last = firstLargest(thread, place);
    if (thread == 0u) {
      ${n.values}[item * words.k + j] = ${n.x}[item * words.E + last.y];
      ${n.indices}[item * words.k + j] = i32(last.y);
    }
  }`;
    return [
      {
        bindings: { x: read(x, 'u32'), values: write(values, 'u32'), indices: write(indices) },
        words: { E, k },
        ...forEachGroup(N, threads, body, firstLargestSource(threads)),
      },
    ];
  },
};

const topKBackward: OpKernel = {
  encode({ inputs, outputs }) {
    const [indices, dvalues, dx] = [dense(inputs, 0), dense(inputs, 1), dense(outputs, 0)];
    const [, k] = indices.shape;
    const E = dx.shape[1];
    const body = (n: Names) => `let row = i / words.E;
  let e = i % words.E;
  var sum = 0.0;
  for (var j = row * words.k; j < (row + 1u) * words.k; j++) {
    let index = ${n.indices}[j];
    if (u32(index) == e) { sum += ${n.dvalues}[j]; }
    if (e == 0u && u32(index) >= words.E) { report(${expertIndexError}u, index); }
  }
  ${n.dx}[i] = sum;`;
    return [
      {
        bindings: { indices: read(indices), dvalues: read(dvalues), dx: write(dx) },
        words: { E, k },
        reports: true,
        ...forEachItem(elementCount(dx.shape), body),
      },
    ];
  },
};

export const topKKernels: KernelTable = { topK, topKBackward };
