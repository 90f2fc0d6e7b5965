// Gradients of rmsNorm and layerNorm, in one pass over x and dy.
//
// With d = x − mean (mean 0 for rmsNorm), s = 1/√(Σd²/C + ε) and u = weight · dy:
//
//   dx = (u − Σu/C [layerNorm only] − d · s² · Σ(u d)/C) · s;   dweight = Σ dy · d · s;   dbias = Σ dy   (over rows)
//
// A row is the work of 32 … 256 threads, which hold its numbers in registers (C / threads each); a workgroup of up to
// 256 threads takes several rows side by side and, one after another, many such; sums over a row are combined by halving
// in workgroup memory (16 bytes a thread). Each thread adds up its channels' shares of the vectors' gradients over its
// rows. They go to scratch memory, up to 4096 shares a channel, and workgroups of 256 threads add up four channels each:
// 64 threads a channel take every 64th share, then they are combined by halving (4 bytes a thread). Fixed order. With
// subgroups of one size sums over a row go through them.

import type { NormAttributes } from '../../../graph/ops/norm.ts';
import { elementCount } from '../../../tensor/shape.ts';
import { forEachGroup, rowThreads } from '../entry.ts';
import {
  type Command,
  type DenseOperand,
  dense,
  type MemoryRange,
  type OpKernel,
  read,
  rowsAndColumns,
  write,
} from '../kernel.ts';
import { cutScratch, fromScratch, scratchSize, toScratch } from '../scratch.ts';
import { fixedSubgroup, rowTotalSource } from '../wgsl/combine.ts';

const groupThreads = 256;
const mostShares = 4096;
/** Channels that a workgroup adds up, and threads for each. */
const [channels, lanes] = [4, 64];

/** How rows are spread: threads of a row, rows side by side in a workgroup, workgroups. */
function layoutOf(rows: number, C: number) {
  const threads = rowThreads(C);
  const side = groupThreads / threads;
  // shares of wide rows would take more memory than they save time
  const shares = Math.min(mostShares, Math.max(256, Math.floor(2 ** 21 / C)));
  const groups = Math.min(Math.ceil(rows / side), Math.ceil(shares / side));
  return { threads, side, groups, shares: groups * side };
}

interface NormOperands {
  readonly x: DenseOperand;
  readonly weight: DenseOperand;
  readonly dy: DenseOperand;
  readonly dx: DenseOperand;
}

/** dx, and the shares of the vectors' gradients. */
function normRows(
  { x, weight, dy, dx }: NormOperands,
  shares: readonly MemoryRange[],
  { centered, epsilon, subgroup }: { centered: boolean; epsilon: number; subgroup: number | undefined },
): Command {
  const [rows, C] = rowsAndColumns(x.shape);
  const { threads, side, groups } = layoutOf(rows, C);
  const held = Array.from({ length: Math.ceil(C / threads) }, (_, k) => k);
  const isWhole = (k: number) => (k + 1) * threads <= C;
  /** The statement for each of the thread's channels, where the row has it. */
  const each = (statement: (k: number) => string) =>
    held.map((k) => (isWhole(k) ? statement(k) : `if (c${k} < ${C}u) { ${statement(k)} }`)).join('\n    ');
  const [weights, biases] = shares;
  return {
    label: 'rows',
    enable: subgroup === undefined ? [] : ['subgroups'],
    bindings: {
      x: read(x),
      weight: read(weight),
      dy: read(dy),
      dx: write(dx),
      toWeights: toScratch(weights),
      ...(biases && { toBiases: toScratch(biases) }),
    },
    words: { rows, groups, epsilon: { f32: epsilon } },
    ...forEachGroup(
      groups,
      groupThreads,
      (n) => `let lane = thread % ${threads}u;
  let beside = thread / ${threads}u;
  ${held.map((k) => `let c${k} = lane + ${k * threads}u;`).join('\n  ')}
  ${held.map((k) => `var w${k} = 0.0; var dw${k} = 0.0; var db${k} = 0.0;`).join('\n  ')}
  ${each((k) => `w${k} = ${n.weight}[c${k}];`)}
  for (var base = item * ${side}u; base < words.rows; base += words.groups * ${side}u) {
    let row = base + beside;
    let isRow = row < words.rows;
    let first = min(row, words.rows - 1u) * ${C}u;
    ${held.map((k) => `var d${k} = 0.0; var g${k} = 0.0;`).join('\n    ')}
    ${each((k) => `d${k} = ${n.x}[first + c${k}]; g${k} = ${n.dy}[first + c${k}];`)}
    ${
      centered
        ? `let mean = rowTotal(thread, vec4f(${held.map((k) => `d${k}`).join(' + ')}, 0.0, 0.0, 0.0)).x / ${C}.0;
    ${each((k) => `d${k} -= mean;`)}`
        : ''
    }
    var sums = vec4f();
    ${held.map((k) => `sums += vec4f(d${k} * d${k}, w${k} * g${k} * d${k}, w${k} * g${k}, 0.0);`).join('\n    ')}
    sums = rowTotal(thread, sums) / ${C}.0;
    let scale = inverseSqrt(sums.x + words.epsilon);
    let correlated = sums.y * scale;
    let plain = ${centered ? 'sums.z' : '0.0'};
    if (isRow) {
      ${each((k) => `${n.dx}[first + c${k}] = (w${k} * g${k} - plain - d${k} * scale * correlated) * scale;`)}
      ${held.map((k) => `dw${k} += g${k} * (d${k} * scale); db${k} += g${k};`).join('\n      ')}
    }
  }
  let share = (item * ${side}u + beside) * ${C}u;
  ${each((k) => `${n.toWeights}[share + c${k}] = dw${k};${biases ? ` ${n.toBiases}[share + c${k}] = db${k};` : ''}`)}`,
      rowTotalSource(threads, groupThreads, 'vec4f', subgroup),
    ),
  };
}

/** The gradient of a vector from its shares. */
function addShares(shares: MemoryRange, sum: DenseOperand, count: number): Command {
  const C = elementCount(sum.shape);
  return {
    label: 'shares',
    bindings: { shares: fromScratch(shares), sum: write(sum) },
    words: { C, count },
    ...forEachGroup(
      Math.ceil(C / channels),
      channels * lanes,
      (n) => `let c = item * ${channels}u + thread % ${channels}u;
  var all = 0.0;
  if (c < words.C) {
    for (var share = thread / ${channels}u; share < words.count; share += ${lanes}u) {
      all += ${n.shares}[share * words.C + c];
    }
  }
  sums[thread] = all;
  for (var half = ${(channels * lanes) / 2}u; half >= ${channels}u; half >>= 1u) {
    workgroupBarrier();
    if (thread < half) { sums[thread] += sums[thread + half]; }
  }
  if (thread < ${channels}u && c < words.C) { ${n.sum}[c] = sums[thread]; }`,
      `var<workgroup> sums: array<f32, ${channels * lanes}>;\n`,
    ),
  };
}

/** Words of scratch memory: the shares of each vector's gradient. */
function shareWords(shape: readonly number[], vectors: number): number[] {
  const [rows, C] = rowsAndColumns(shape);
  return Array.from({ length: vectors }, () => layoutOf(rows, C).shares * C);
}

export const normBackward = (centered: boolean): OpKernel => ({
  scratchBytes: ({ inputs: [x], outputs }) => scratchSize(shareWords(x.type.shape, outputs.length - 1)),
  encode({ node, inputs, outputs, scratch, gpu }) {
    const { epsilon } = node.attributes as unknown as NormAttributes;
    const [x, weight, dy] = inputs.map((_, i) => dense(inputs, i));
    const [dx, ...vectors] = outputs.map((_, i) => dense(outputs, i));
    const shares = cutScratch(scratch, shareWords(x.shape, vectors.length));
    const { shares: count } = layoutOf(...rowsAndColumns(x.shape));
    return [
      normRows({ x, weight, dy, dx }, shares, { centered, epsilon, subgroup: fixedSubgroup(gpu) }),
      ...vectors.map((vector, i) => addShares(shares[i], vector, count)),
    ];
  },
});
