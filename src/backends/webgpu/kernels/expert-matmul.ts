// expertMatmul and its gradients.
//
// Slots are sorted by expert (routes.ts). Workgroups of 256 threads then compute tiles of 64 slots of one expert × 64
// results (wgsl/tile.ts), so that an expert's matrix is read once for 64 slots; there are as many workgroups as the
// worst routing needs, and those too many return at once. Gradients: dx by the same tiles (where slots share a row of x,
// scratch memory holds each slot's share, which one thread for each number adds up), dweight by tiles of 64 × 64 numbers
// of an expert, summed over its slots in order. A packed weight is decoded on the way.
// For a few slots, as in generation, a workgroup of 32 … 256 threads computes one result; packed weights have a kernel
// of their own there (matmul-vector.ts). No features.

import type { ExpertGradientAttributes } from '../../../graph/ops/expert-matmul.ts';
import { elementCount } from '../../../tensor/shape.ts';
import { expertIndexError } from '../../data-error-codes.ts';
import { forEachGroup, forEachItem, rowThreads } from '../entry.ts';
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
import { forEachSum, tileProduct, tileSide, tileSource, tilesOf, tileThreads } from '../wgsl/tile.ts';
import { weightElement, weightSource } from '../wgsl/weight.ts';
import { encodePackedExperts } from './matmul-vector.ts';
import {
  findRows,
  findTile,
  placeSource,
  type Routes,
  readRoutes,
  routedTiles,
  routeWords,
  sortRoutes,
} from './routes.ts';

/** Whether slots are computed one by one: experts have four each at most, on average. */
const isFew = (slots: number, experts: number) => slots <= 4 * experts;

interface Operands {
  readonly x: DenseOperand;
  readonly weight: Operand;
  readonly indices: DenseOperand;
}

/** The row of x that a slot reads: its own, or that of its k slots. */
const rowOf = ({ x, indices }: Pick<Operands, 'x' | 'indices'>, slot: string) =>
  x.shape.length === 3 ? slot : `(${slot} / ${indices.shape[1]}u)`;

function slotBySlot(operands: Operands, y: DenseOperand): Command {
  const { x, weight, indices } = operands;
  const [E, M, K] = weight.shape;
  const threads = rowThreads(K);
  const body = (n: Names) => `let slot = item / words.M;
  let index = ${n.indices}[slot];
  if (u32(index) >= words.E && thread == 0u) { report(${expertIndexError}u, index); }
  let expert = select(u32(index), 0u, u32(index) >= words.E);
  let first = (expert * words.M + item % words.M) * words.K;
  var sum = 0.0;
  for (var k = thread; k < words.K; k += ${threads}u) {
    sum += ${n.x}[${rowOf(operands, 'slot')} * words.K + k] * ${n.weight}[first + k];
  }
  sum = total(thread, sum);
  if (thread == 0u) { ${n.y}[item] = sum; }`;
  return {
    bindings: { x: read(x), weight: read(weight), indices: read(indices), y: write(y) },
    words: { E, M, K },
    reports: true,
    ...forEachGroup(elementCount(y.shape), threads, body, totalSource(threads)),
  };
}

/** What a tile of slots begins with: the rows (place in order) from m0 on and the columns from n0 on. */
const tileStart = (n: Names, experts: number) => `${findTile(n.offsets, 'item / words.across', experts)}
  let m0 = rows.y;
  let n0 = item % words.across * ${tileSide}u;`;

function forwardTiles(operands: Operands, routes: Routes, y: DenseOperand): Command {
  const { x, weight, indices } = operands;
  const [E, M, K] = weight.shape;
  const across = tilesOf(M);
  const body = (n: Names) => `${tileStart(n, E)}
  ${tileProduct(
    {
      element: (row, k) => `${n.x}[${rowOf(operands, `${n.order}[${row}]`)} * words.K + ${k}]`,
      rows: 'rows.z',
      kLast: true,
    },
    { ...weightElement(weight, n.weight, (row, k) => [`rows.x * words.M + ${row}`, k]), rows: 'words.M', kLast: true },
    'words.K',
  )}
  ${forEachSum('rows.z', 'words.M', `${n.y}[${n.order}[row] * words.M + column] = sum;`)}`;
  return {
    bindings: { x: read(x), weight: read(weight), ...readRoutes(routes), y: write(y) },
    words: { M, K, across },
    ...forEachGroup(
      routedTiles(elementCount(indices.shape), E) * across,
      tileThreads,
      body,
      (n) => tileSource + placeSource + weightSource(weight, n.weight),
    ),
  };
}

const expertMatmul: OpKernel = {
  scratchBytes({ inputs: [, weight, indices] }) {
    const [slots, E] = [elementCount(indices.type.shape), weight.type.shape[0]];
    return isFew(slots, E) ? 0 : scratchSize(routeWords(slots, E));
  },
  encode(context) {
    const { inputs, outputs, scratch } = context;
    const operands = { x: dense(inputs, 0), weight: inputs[1], indices: dense(inputs, 2) };
    const y = dense(outputs, 0);
    const [slots, E] = [elementCount(operands.indices.shape), operands.weight.shape[0]];
    if (isFew(slots, E)) return inputs[1].dtype === 'packed' ? encodePackedExperts(context) : [slotBySlot(operands, y)];
    const [offsets, order] = cutScratch(scratch, routeWords(slots, E));
    const routes = { offsets, order };
    return [sortRoutes(operands.indices, E, routes), forwardTiles(operands, routes, y)];
  },
};

/** The gradient of each slot's input, [slots, K]. */
function inputTiles({ weight, indices }: Operands, routes: Routes, dy: DenseOperand, toSlots: MemoryRange): Command {
  const [E, M, K] = weight.shape;
  const across = tilesOf(K);
  const body = (n: Names) => `${tileStart(n, E)}
  ${tileProduct(
    { element: (row, k) => `${n.dy}[${n.order}[${row}] * words.M + ${k}]`, rows: 'rows.z', kLast: true },
    { ...weightElement(weight, n.weight, (row, k) => [`rows.x * words.M + ${k}`, row]), rows: 'words.K', kLast: false },
    'words.M',
  )}
  ${forEachSum('rows.z', 'words.K', `${n.toSlots}[${n.order}[row] * words.K + column] = sum;`)}`;
  return {
    bindings: { weight: read(weight), dy: read(dy), ...readRoutes(routes), toSlots: toScratch(toSlots) },
    words: { M, K, across },
    ...forEachGroup(
      routedTiles(elementCount(indices.shape), E) * across,
      tileThreads,
      body,
      (n) => tileSource + placeSource + weightSource(weight, n.weight),
    ),
  };
}

function addSlots(shares: MemoryRange, dx: DenseOperand, slots: number): Command {
  const K = dx.shape[1];
  const body = (n: Names) => `var sum = 0.0;
  for (var j = 0u; j < ${slots}u; j++) { sum += ${n.shares}[(i / words.K * ${slots}u + j) * words.K + i % words.K]; }
  ${n.dx}[i] = sum;`;
  return {
    bindings: { shares: fromScratch(shares), dx: write(dx) },
    words: { K },
    ...forEachItem(elementCount(dx.shape), body),
  };
}

function weightTiles(
  operands: Pick<Operands, 'x' | 'indices'>,
  routes: Routes,
  dy: DenseOperand,
  dweight: DenseOperand,
): Command {
  const { x } = operands;
  const [E, M, K] = dweight.shape;
  const [across, down] = [tilesOf(K), tilesOf(M)];
  const slot = (n: Names, k: string) => `${n.order}[rows.y + ${k}]`;
  const body = (n: Names) => `let expert = item / words.across / words.down;
  ${findRows(n.offsets, 'expert')}
  let m0 = item / words.across % words.down * ${tileSide}u;
  let n0 = item % words.across * ${tileSide}u;
  ${tileProduct(
    { element: (row, k) => `${n.dy}[${slot(n, k)} * words.M + ${row}]`, rows: 'words.M', kLast: false },
    {
      element: (row, k) => `${n.x}[${rowOf(operands, slot(n, k))} * words.K + ${row}]`,
      rows: 'words.K',
      kLast: false,
    },
    '(rows.z - rows.y)',
  )}
  ${forEachSum('words.M', 'words.K', `${n.dweight}[(expert * words.M + row) * words.K + column] = sum;`)}`;
  return {
    bindings: { x: read(x), dy: read(dy), ...readRoutes(routes), dweight: write(dweight) },
    words: { M, K, across, down },
    ...forEachGroup(E * across * down, tileThreads, body, tileSource + placeSource),
  };
}

/** Routes, and each slot's share of dx where slots share a row of x. */
function gradientWords(x: readonly number[], weight: readonly number[], indices: readonly number[]): number[] {
  const slots = elementCount(indices);
  const words = routeWords(slots, weight[0]);
  return x.length === 3 ? words : [...words, slots * weight[2]];
}

const expertMatmulBackward: OpKernel = {
  scratchBytes: ({ inputs: [x, weight, indices] }) =>
    scratchSize(gradientWords(x.type.shape, weight.type.shape, indices.type.shape)),
  encode({ node, inputs, outputs, scratch }) {
    const { weightGradient } = node.attributes as unknown as ExpertGradientAttributes;
    const [x, indices, dy] = [0, 2, 3].map((i) => dense(inputs, i));
    const weight = inputs[1];
    const operands = { x, weight, indices };
    const dx = dense(outputs, 0);
    const [offsets, order, shares] = cutScratch(scratch, gradientWords(x.shape, weight.shape, indices.shape));
    const routes = { offsets, order };
    const commands = [
      sortRoutes(indices, weight.shape[0], routes),
      inputTiles(operands, routes, dy, shares ?? dx.range),
    ];
    if (shares) commands.push(addSlots(shares, dx, indices.shape[1]));
    if (weightGradient) commands.push(weightTiles(operands, routes, dy, dense(outputs, 1)));
    return commands;
  },
};

const expertWeightGradient: OpKernel = {
  scratchBytes: ({ inputs: [, , indices], outputs: [dweight] }) =>
    scratchSize(routeWords(elementCount(indices.type.shape), dweight.type.shape[0])),
  encode({ inputs, outputs, scratch }) {
    const [x, dy, indices] = [0, 1, 2].map((i) => dense(inputs, i));
    const dweight = dense(outputs, 0);
    const [offsets, order] = cutScratch(scratch, routeWords(elementCount(indices.shape), dweight.shape[0]));
    const routes = { offsets, order };
    return [sortRoutes(indices, dweight.shape[0], routes), weightTiles({ x, indices }, routes, dy, dweight)];
  },
};

export const expertKernels: KernelTable = { expertMatmul, expertMatmulBackward, expertWeightGradient };
