// reshape, transpose, slice, concat.

import type { ConcatAttributes, SliceAttributes, TransposeAttributes } from '../../graph/ops/layout.ts';
import { elementCount, type Shape } from '../../tensor/shape.ts';
import { type Kernel, numbers, target } from './kernel.ts';

/** A view: dense outputs lie on the input's memory already; packed ones take over its codes. */
export const reshape: Kernel = ([x], [y]) => {
  if (x.kind === 'packed' && y.kind === 'packed') y.data = x.data;
};

/** Elements between neighbours along each dimension. */
function strides(shape: Shape): number[] {
  return shape.map((_, d) => elementCount(shape.slice(d + 1)));
}

export const transpose: Kernel<TransposeAttributes> = ([x], [y], { permutation }) => {
  const from = numbers(x);
  const to = target(y);
  const outStrides = strides(y.shape);
  const inStrides = strides(x.shape);
  for (let i = 0; i < to.length; i++) {
    let source = 0;
    permutation.forEach((p, d) => {
      source += (Math.floor(i / outStrides[d]) % y.shape[d]) * inStrides[p];
    });
    to[i] = from[source];
  }
};

export const slice: Kernel<SliceAttributes> = ([x], [y], { axis, start, length }) => {
  const from = numbers(x);
  const to = target(y);
  const size = x.shape[axis];
  const inner = elementCount(x.shape.slice(axis + 1));
  const outer = elementCount(x.shape.slice(0, axis));
  for (let o = 0; o < outer; o++) {
    const first = (o * size + start) * inner;
    to.set(from.subarray(first, first + length * inner), o * length * inner);
  }
};

export const concat: Kernel<ConcatAttributes> = (inputs, [y], { axis }) => {
  const to = target(y);
  const inner = elementCount(y.shape.slice(axis + 1));
  const outer = elementCount(y.shape.slice(0, axis));
  let written = 0; // entries along the axis
  for (const x of inputs) {
    const from = numbers(x);
    const run = x.shape[axis] * inner;
    for (let o = 0; o < outer; o++)
      to.set(from.subarray(o * run, (o + 1) * run), (o * y.shape[axis] + written) * inner);
    written += x.shape[axis];
  }
};
