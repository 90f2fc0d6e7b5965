// Gradients of crossEntropy, without the N×V logits in memory. On tensor cores: cross-entropy-tensor-cores.ts.
//
//   G = dnll · (softmax(hidden · weightᵀ) − one at the target),  dhidden = G · weight,  dweight = Gᵀ · hidden
//
// The vocabulary is taken in spans of which G, [N, span], fills at most 32 MB of scratch memory, and half of what a
// kernel can bind. For each span three dispatches compute 64 × 64 tiles (wgsl/tile.ts): G from logits that are computed
// again, what it adds to dhidden, and the rows of dweight, which are complete at once. Before, a workgroup a row finds
// the normalizer, nll plus the logit of the target. A packed weight is decoded on the way. All sums have a fixed order. No features.

import type { WeightGradientAttributes } from '../../../graph/ops/cross-entropy.ts';
import { targetError } from '../../data-error-codes.ts';
import type { GpuTraits } from '../device.ts';
import { forEachGroup, rowThreads } from '../entry.ts';
import {
  type Command,
  type DenseOperand,
  dense,
  type KernelTable,
  type MemoryRange,
  type Names,
  type Operand,
  type OpKernel,
  read,
  write,
} from '../kernel.ts';
import { cutScratch, fromScratch, scratchSize, toScratch } from '../scratch.ts';
import { totalSource } from '../wgsl/combine.ts';
import { mathSource } from '../wgsl/math.ts';
import { forEachSum, tileProduct, tileSide, tileSource, tilesOf, tileThreads } from '../wgsl/tile.ts';
import { weightAtSource, weightElement, weightSource } from '../wgsl/weight.ts';
import {
  crossEntropyScratch,
  encodeCrossEntropyBackward,
  planCrossEntropyBackward,
} from './cross-entropy-tensor-cores.ts';

/** Words of the vocabulary in a span. */
function spanOf(N: number, V: number, { bufferBytes }: GpuTraits): number {
  const numbers = Math.min(2 ** 23, bufferBytes / 8);
  const most = Math.max(1, Math.floor(numbers / N / tileSide));
  return Math.min(most, tilesOf(V)) * tileSide;
}

const scratchWords = (N: number, V: number, gpu: GpuTraits) => [N, N * spanOf(N, V, gpu)];

interface Operands {
  readonly hidden: DenseOperand;
  readonly weight: Operand;
  readonly targets: DenseOperand;
  readonly nll: DenseOperand;
  readonly dnll: DenseOperand;
  /** nll plus the logit of the target, for each row. */
  readonly normalizers: MemoryRange;
  /** G of one span, [N, span]. */
  readonly slopes: MemoryRange;
}

function normalize({ hidden, weight, targets, nll, normalizers }: Operands): Command {
  const [N, C] = hidden.shape;
  const V = weight.shape[0];
  const threads = rowThreads(C);
  const body = (n: Names) => `let id = ${n.targets}[item];
  let counts = id >= 0 && u32(id) < words.V;
  if (id >= 0 && !counts && thread == 0u) { report(${targetError}u, id); }
  var sum = 0.0;
  if (counts) {
    for (var c = thread; c < words.C; c += ${threads}u) {
      sum += ${n.hidden}[item * words.C + c] * weightAt(u32(id), c);
    }
  }
  sum = total(thread, sum);
  if (thread == 0u) { ${n.normalizers}[item] = ${n.nll}[item] + sum; }`;
  return {
    bindings: {
      hidden: read(hidden),
      weight: read(weight),
      targets: read(targets),
      nll: read(nll),
      normalizers: toScratch(normalizers),
    },
    words: { V, C },
    reports: true,
    ...forEachGroup(
      N,
      threads,
      body,
      (n) => totalSource(threads) + weightSource(weight, n.weight) + weightAtSource(weight, n.weight),
    ),
  };
}

/** What the tiles of a span share: words and where the tile begins. */
const tileStart = (across: string) => `let n0 = item % ${across} * ${tileSide}u;
  let m0 = item / ${across} * ${tileSide}u;`;

function spanSlopes(operands: Operands, v0: number, span: number): Command {
  const { hidden, weight, targets, dnll, normalizers, slopes } = operands;
  const [N, C] = hidden.shape;
  const across = tilesOf(span);
  const body = (n: Names) => `${tileStart('words.across')}
  ${tileProduct(
    { element: (row, k) => `${n.hidden}[${row} * words.C + ${k}]`, rows: 'words.N', kLast: true },
    { ...weightElement(weight, n.weight, (row, k) => [`words.v0 + ${row}`, k]), rows: 'words.span', kLast: true },
    'words.C',
  )}
  ${forEachSum(
    'words.N',
    'words.span',
    `let id = ${n.targets}[row];
        let hit = select(0.0, 1.0, u32(id) == words.v0 + column);
        let slope = ${n.dnll}[row] * (expOf(sum - ${n.normalizers}[row]) - hit);
        ${n.slopes}[row * words.span + column] = select(0.0, slope, id >= 0 && u32(id) < words.V);`,
  )}`;
  return {
    bindings: {
      hidden: read(hidden),
      weight: read(weight),
      targets: read(targets),
      dnll: read(dnll),
      normalizers: fromScratch(normalizers),
      slopes: toScratch(slopes),
    },
    words: { N, C, V: weight.shape[0], v0, span, across },
    ...forEachGroup(
      across * tilesOf(N),
      tileThreads,
      body,
      (n) => mathSource + tileSource + weightSource(weight, n.weight),
    ),
  };
}

function addToHidden({ hidden, weight, slopes }: Operands, dhidden: DenseOperand, v0: number, span: number): Command {
  const [N, C] = hidden.shape;
  const across = tilesOf(C);
  const body = (n: Names) => `${tileStart('words.across')}
  ${tileProduct(
    { element: (row, k) => `${n.slopes}[${row} * words.span + ${k}]`, rows: 'words.N', kLast: true },
    { ...weightElement(weight, n.weight, (row, k) => [`words.v0 + ${k}`, row]), rows: 'words.C', kLast: false },
    'words.span',
  )}
  ${forEachSum(
    'words.N',
    'words.C',
    `let at = row * words.C + column;
        var all = sum;
        if (words.v0 > 0u) { all += ${n.dhidden}[at]; }
        ${n.dhidden}[at] = all;`,
  )}`;
  return {
    bindings: { weight: read(weight), slopes: fromScratch(slopes), dhidden: write(dhidden) },
    words: { N, C, v0, span, across },
    ...forEachGroup(across * tilesOf(N), tileThreads, body, (n) => tileSource + weightSource(weight, n.weight)),
  };
}

function weightRows({ hidden, slopes }: Operands, dweight: DenseOperand, v0: number, span: number): Command {
  const [N, C] = hidden.shape;
  const across = tilesOf(C);
  const body = (n: Names) => `${tileStart('words.across')}
  ${tileProduct(
    { element: (row, k) => `${n.slopes}[${k} * words.span + ${row}]`, rows: 'words.span', kLast: false },
    { element: (row, k) => `${n.hidden}[${k} * words.C + ${row}]`, rows: 'words.C', kLast: false },
    'words.N',
  )}
  ${forEachSum('words.span', 'words.C', `${n.dweight}[(words.v0 + row) * words.C + column] = sum;`)}`;
  return {
    bindings: { hidden: read(hidden), slopes: fromScratch(slopes), dweight: write(dweight) },
    words: { N, C, v0, span, across },
    ...forEachGroup(across * tilesOf(span), tileThreads, body, tileSource),
  };
}

const crossEntropyBackward: OpKernel = {
  scratchBytes(node, gpu) {
    const plan = planCrossEntropyBackward(node, gpu);
    if (plan) return crossEntropyScratch(plan, true);
    const [{ type: hidden }, { type: weight }] = node.inputs;
    return scratchSize(scratchWords(hidden.shape[0], weight.shape[0], gpu));
  },
  encode(context) {
    const { node, inputs, outputs, gpu, scratch } = context;
    const plan = planCrossEntropyBackward(node, gpu);
    if (plan) return encodeCrossEntropyBackward(context, plan);
    const { weightGradient } = node.attributes as unknown as WeightGradientAttributes;
    const [hidden, targets, nll, dnll] = [0, 2, 3, 4].map((i) => dense(inputs, i));
    const weight = inputs[1];
    const [N, V] = [hidden.shape[0], weight.shape[0]];
    const [normalizers, slopes] = cutScratch(scratch, scratchWords(N, V, gpu));
    const operands = { hidden, weight, targets, nll, dnll, normalizers, slopes };
    const commands = [normalize(operands)];
    const most = spanOf(N, V, gpu);
    for (let v0 = 0; v0 < V; v0 += most) {
      const span = Math.min(most, V - v0);
      commands.push(spanSlopes(operands, v0, span), addToHidden(operands, dense(outputs, 0), v0, span));
      if (weightGradient) commands.push(weightRows(operands, dense(outputs, 1), v0, span));
    }
    return commands;
  },
};

export const crossEntropyBackwardKernels: KernelTable = { crossEntropyBackward };
