// Gradients of max, softmax, rmsNorm and layerNorm.
//
// softmax and the norms: a workgroup of 32 … 256 threads (four numbers a thread or more) computes a row of dx; sums are
// combined by halving in workgroup memory (4 bytes a thread). The gradients of a norm's vectors are sums over all rows,
// taken in two steps of fixed order: √rows blocks of rows are summed by one thread for each block and channel
// (neighbouring threads read neighbouring channels), then one thread a channel adds the blocks up. Between the steps,
// scratch memory holds mean and scale of every row and the sums of the blocks.
// max: as in reduce, a workgroup counts the maxima of one result where the innermost dimension is reduced, else one
// thread does. No features.

import type { NormAttributes } from '../../../graph/ops/norm.ts';
import { elementCount } from '../../../tensor/shape.ts';
import { roles } from '../../dimensions.ts';
import { forEachGroup, forEachItem, rowThreads } from '../entry.ts';
import {
  type Command,
  type DenseOperand,
  dense,
  type KernelTable,
  type MemoryRange,
  type Names,
  type OpKernel,
  read,
  rowsAndColumns,
  write,
} from '../kernel.ts';
import { cutScratch, fromScratch, scratchSize, toScratch } from '../scratch.ts';
import { totalSource } from '../wgsl/combine.ts';
import { offsetOf } from '../wgsl/offsets.ts';

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

/** Blocks of rows whose shares of the vectors' gradients are summed side by side. */
const blocksOf = (rows: number) => Math.ceil(Math.sqrt(rows));

/** Words of scratch memory: mean and scale of each row, then a sum for each block and channel of each vector. */
function normScratch(x: readonly number[], vectors: number): number[] {
  const [rows, C] = rowsAndColumns(x);
  return [2 * rows, ...Array.from({ length: vectors }, () => blocksOf(rows) * C)];
}

interface NormOperands {
  readonly x: DenseOperand;
  readonly weight: DenseOperand;
  readonly dy: DenseOperand;
  readonly dx: DenseOperand;
  readonly statistics: MemoryRange;
}

/** dx, and the statistics of every row. With n = (x − mean) · scale and u = weight · dy: dx = (u − ū − n · mean(u n)) · scale. */
function normRows({ x, weight, dy, dx, statistics }: NormOperands, centered: boolean, epsilon: number): Command {
  const [rows, C] = rowsAndColumns(x.shape);
  const threads = rowThreads(C);
  const body = (n: Names) => `let first = item * words.C;
  var mean = 0.0;
  ${centered ? `${each(threads, `mean += ${n.x}[first + c];`)} mean = total(thread, mean) / f32(words.C);` : ''}
  var squares = 0.0;
  ${each(threads, `let d = ${n.x}[first + c] - mean; squares += d * d;`)}
  let scale = inverseSqrt(total(thread, squares) / f32(words.C) + words.epsilon);
  var plain = 0.0;
  var correlated = 0.0;
  ${each(
    threads,
    `let u = ${n.weight}[c] * ${n.dy}[first + c];
    plain += u;
    correlated += u * ((${n.x}[first + c] - mean) * scale);`,
  )}
  plain = ${centered ? 'total(thread, plain) / f32(words.C)' : '0.0'};
  correlated = total(thread, correlated) / f32(words.C);
  ${each(
    threads,
    `let u = ${n.weight}[c] * ${n.dy}[first + c];
    ${n.dx}[first + c] = (u - plain - (${n.x}[first + c] - mean) * scale * correlated) * scale;`,
  )}
  if (thread == 0u) {
    ${n.statistics}[item * 2u] = mean;
    ${n.statistics}[item * 2u + 1u] = scale;
  }`;
  return {
    bindings: { x: read(x), weight: read(weight), dy: read(dy), dx: write(dx), statistics: toScratch(statistics) },
    words: { C, epsilon: { f32: epsilon } },
    ...forEachGroup(rows, threads, body, totalSource(threads)),
  };
}

/** The blocks' shares of the gradients of weight and bias. */
function vectorShares({ x, dy, statistics }: NormOperands, shares: readonly MemoryRange[]): Command {
  const [rows, C] = rowsAndColumns(x.shape);
  const blocks = blocksOf(rows);
  const [weights, biases] = shares;
  const body = (n: Names) => `let c = i % words.C;
  let block = i / words.C;
  var weights = 0.0;
  var biases = 0.0;
  for (var row = block; row < words.rows; row += words.blocks) {
    let g = ${n.dy}[row * words.C + c];
    weights += g * ((${n.x}[row * words.C + c] - ${n.statistics}[row * 2u]) * ${n.statistics}[row * 2u + 1u]);
    biases += g;
  }
  ${n.toWeights}[i] = weights;
  ${biases ? `${n.toBiases}[i] = biases;` : ''}`;
  return {
    bindings: {
      x: read(x),
      dy: read(dy),
      statistics: fromScratch(statistics),
      toWeights: toScratch(weights),
      ...(biases && { toBiases: toScratch(biases) }),
    },
    words: { C, rows, blocks },
    ...forEachItem(blocks * C, body),
  };
}

function addShares(shares: MemoryRange, sum: DenseOperand, blocks: number): Command {
  const C = elementCount(sum.shape);
  const body = (n: Names) => `var all = 0.0;
  for (var block = 0u; block < words.blocks; block++) { all += ${n.shares}[block * words.items + i]; }
  ${n.sum}[i] = all;`;
  return {
    bindings: { shares: fromScratch(shares), sum: write(sum) },
    words: { blocks },
    ...forEachItem(C, body),
  };
}

const normBackward = (centered: boolean): OpKernel => ({
  scratchBytes: ({ inputs: [x] }) => scratchSize(normScratch(x.type.shape, centered ? 2 : 1)),
  encode({ node, inputs, outputs, scratch }) {
    const { epsilon } = node.attributes as unknown as NormAttributes;
    const [x, weight, dy] = inputs.map((_, i) => dense(inputs, i));
    const [dx, ...vectors] = outputs.map((_, i) => dense(outputs, i));
    const [statistics, ...shares] = cutScratch(scratch, normScratch(x.shape, vectors.length));
    const operands = { x, weight, dy, dx, statistics };
    const blocks = blocksOf(rowsAndColumns(x.shape)[0]);
    return [
      normRows(operands, centered, epsilon),
      vectorShares(operands, shares),
      ...vectors.map((vector, i) => addShares(shares[i], vector, blocks)),
    ];
  },
});

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
