// Gradients of max and softmax; those of the norms are in norm-backward.ts.
//
// softmax: a workgroup of 32 … 256 threads (four numbers a thread or more) computes a row of dx; sums are combined by
// halving in workgroup memory (4 bytes a thread).
// max: as in reduce, a workgroup counts the maxima of one result where the innermost dimension is reduced, else one
// thread does. No features.

import { elementCount } from '../../../tensor/shape.ts';
import { roles } from '../../dimensions.ts';
import { forEachGroup, forEachItem, rowThreads } from '../entry.ts';
import { dense, type KernelTable, type Names, type OpKernel, read, rowsAndColumns, write } from '../kernel.ts';
import { totalSource } from '../wgsl/combine.ts';
import { offsetOf } from '../wgsl/offsets.ts';
import { normBackward } from './norm-backward.ts';

const each = (threads: number, body: string) => `for (var c = thread; c < words.C; c += ${threads}u) { ${body} }`;

const softmaxBackward: OpKernel = {
  encode({ inputs, outputs }) {
    const [y, dy, dx] = [dense(inputs, 0), dense(inputs, 1), dense(outputs, 0)];
    const [rows, C] = rowsAndColumns(y.shape);
    const threads = rowThreads(C);
    const body = (n: Names) => `let first = item * words.C;
  var mean = 0.0;
  ${each(threads, `mean += ${n.y}[first + c] * ${n.dy}[first + c];`)}
  mean = total(thread, mean);
  ${each(threads, `${n.dx}[first + c] = ${n.y}[first + c] * (${n.dy}[first + c] - mean);`)}`;
    return [
      {
        bindings: { y: read(y), dy: read(dy), dx: write(dx) },
        words: { C },
        ...forEachGroup(rows, threads, body, totalSource(threads)),
      },
    ];
  },
};

const maxBackward: OpKernel = {
  encode({ inputs, outputs }) {
    const [x, y, dy] = inputs.map((_, i) => dense(inputs, i));
    const dx = dense(outputs, 0);
    const dims = roles(
      x.shape,
      [...x.shape.keys()].filter((d) => y.shape[d] !== x.shape[d]),
    );
    const kept = dims.filter((d) => !d.reduced);
    const reduced = dims.filter((d) => d.reduced);
    const count = elementCount(y.shape);
    const length = elementCount(x.shape) / count;
    const bindings = { x: read(x), y: read(y), dy: read(dy), dx: write(dx) };
    const walk = (
      first: string,
      stride: number,
      statement: string,
    ) => `for (var j = ${first}; j < ${length}u; j += ${stride}u) {
    ${offsetOf(reduced, 'j', 'in')}
    let at = base0 + in0;
    ${statement}
  }`;
    const body = (
      n: Names,
      result: string,
      first: string,
      stride: number,
      all: string,
    ) => `${offsetOf(kept, result, 'base')}
  let most = ${n.y}[${result}];
  var ties = 0.0;
  ${walk(first, stride, `if (${n.x}[at] == most) { ties += 1.0; }`)}
  let share = ${n.dy}[${result}] / ${all};
  ${walk(first, stride, `${n.dx}[at] = select(0.0, share, ${n.x}[at] == most);`)}`;
    if (!dims[dims.length - 1].reduced)
      return [{ bindings, ...forEachItem(count, (n) => body(n, 'i', '0u', 1, 'ties')) }];
    const threads = rowThreads(length);
    return [
      {
        bindings,
        ...forEachGroup(
          count,
          threads,
          (n) => body(n, 'item', 'thread', threads, 'total(thread, ties)'),
          totalSource(threads),
        ),
      },
    ];
  },
};

export const rowBackwardKernels: KernelTable = {
  maxBackward,
  softmaxBackward,
  rmsNormBackward: normBackward(false),
  layerNormBackward: normBackward(true),
};
