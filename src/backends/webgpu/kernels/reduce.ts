// reduce: sums, means and maxima over any axes.
//
// Where the innermost dimension is reduced, a workgroup of 32 … 256 threads gathers one result: each thread takes every
// threads-th element, then the parts are combined by halving (8 bytes a thread of workgroup memory). Where it is kept,
// one thread gathers one result, so that neighbouring threads read neighbouring elements. Sums are carried in two floats. No features.

import type { ReduceAttributes } from '../../../graph/ops/reduce.ts';
import { elementCount } from '../../../tensor/shape.ts';
import { type Dimension, roles } from '../../dimensions.ts';
import { forEachGroup, forEachItem, rowThreads } from '../entry.ts';
import { dense, type KernelTable, type Names, type OpKernel, read, write } from '../kernel.ts';
import { exactTotalSource, largestSource, plusSource } from '../wgsl/combine.ts';
import { mathSource } from '../wgsl/math.ts';
import { offsetStatements } from '../wgsl/offsets.ts';

/** Offset of number `index` among the elements of some dimensions; 0 without dimensions. */
function offset(dims: readonly Dimension[], index: string, name: string): string {
  return offsetStatements(dims.length > 0 ? dims.map((d) => [d.size, d.stride]) : [[1, 0]], index, name);
}

const reduce: OpKernel = {
  encode({ node, inputs, outputs }) {
    const { kind, axes } = node.attributes as unknown as ReduceAttributes;
    const [x, y] = [dense(inputs, 0), dense(outputs, 0)];
    const dims = roles(x.shape, axes);
    const kept = dims.filter((d) => !d.reduced);
    const reduced = dims.filter((d) => d.reduced);
    const count = elementCount(y.shape);
    const length = elementCount(x.shape) / count;
    const bindings = { x: read(x), y: write(y) };
    const gather = (
      source: string,
      first: string,
      stride: number,
    ) => `var all = ${kind === 'max' ? '-infinity()' : 'vec2f()'};
  for (var j = ${first}; j < ${length}u; j += ${stride}u) {
    ${offset(reduced, 'j', 'in')}
    all = ${kind === 'max' ? 'larger' : 'plus'}(all, ${source}[base0 + in0]);
  }`;
    const result = { max: 'all', sum: 'all.x + all.y', mean: `(all.x + all.y) / ${length}.0` }[kind];
    const prelude = kind === 'max' ? mathSource : plusSource;
    if (!dims[dims.length - 1].reduced) {
      const body = (n: Names) => `${offset(kept, 'i', 'base')}
  ${gather(n.x, '0u', 1)}
  ${n.y}[i] = ${result};`;
      return [{ bindings, ...forEachItem(count, body, prelude) }];
    }
    const threads = rowThreads(length);
    const [combine, name] =
      kind === 'max' ? [largestSource(threads), 'largest'] : [exactTotalSource(threads), 'exactTotal'];
    const body = (n: Names) => `${offset(kept, 'item', 'base')}
  ${gather(n.x, 'thread', threads)}
  all = ${name}(thread, all);
  if (thread == 0u) { ${n.y}[item] = ${result}; }`;
    return [{ bindings, ...forEachGroup(count, threads, body, prelude + combine) }];
  },
};

export const reduceKernels: KernelTable = { reduce };
