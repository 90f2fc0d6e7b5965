// crossEntropy and its gradients on tensor cores, a chunk of rows at a time.
//
//   logits = hidden · weightᵀ,  nll = log Σ e^logits − logit of the target
//   G = dnll · (softmax(logits) − one at the target),  dhidden = G · weight,  dweight = Gᵀ · hidden
//
// The logits of a chunk, at most 128 MB where 128 rows allow it, go through scratch memory; N×V are never stored. A
// workgroup a row makes the normalizer, and in the backward pass puts G in the place of the logits. Operands are rounded
// to f16 (matmul-operand.ts); |G| is bounded by the largest |dnll|. dweight sums over chunks in order.

import type { Node, ValueType } from '../../../graph/graph.ts';
import type { WeightGradientAttributes } from '../../../graph/ops/cross-entropy.ts';
import { targetError } from '../../data-error-codes.ts';
import { alignedBytes } from '../constants.ts';
import type { GpuTraits } from '../device.ts';
import { forEachGroup } from '../entry.ts';
import { type Fragments, fragmentsOf } from '../fragments.ts';
import {
  type Binding,
  type Command,
  type DenseOperand,
  dense,
  type EncodeContext,
  type MemoryRange,
  type Names,
  type Operand,
  read,
  write,
} from '../kernel.ts';
import { cutScratch, fromScratch, scratchSize, toScratch } from '../scratch.ts';
import { largestSource, totalSource } from '../wgsl/combine.ts';
import { mathSource } from '../wgsl/math.ts';
import { boundCommand, boundWords } from './matmul-bound.ts';
import { planSide, productSide, type TensorSide, tiling } from './matmul-tensor-cores.ts';
import { type ProductSide, productCommands } from './tensor-product.ts';

export interface CrossEntropyPlan {
  readonly N: number;
  readonly C: number;
  readonly V: number;
  /** Rows of a chunk, a multiple of 128 unless there are fewer. */
  readonly rows: number;
  readonly fragments: Fragments;
  readonly hidden: TensorSide;
  readonly weight: TensorSide;
}

const chunkBytes = 2 ** 27;
const threads = 256;

/** How crossEntropy or its backward runs on tensor cores; undefined where it does not. */
export function planCrossEntropy({ inputs }: Node, gpu: GpuTraits): CrossEntropyPlan | undefined {
  const fragments = fragmentsOf(gpu);
  if (gpu.tensorCores !== 'f16' || !fragments) return undefined;
  const [hidden, weight]: ValueType[] = inputs.map(({ type }) => type);
  const [N, C] = hidden.shape;
  const V = weight.shape[0];
  if (N < 64 || V < 64 || V % 8 !== 0 || C % 8 !== 0 || N % 4 !== 0) return undefined;
  const sides = [planSide(hidden, 'k', N, C, gpu), planSide(weight, 'k', V, C, gpu)];
  if (!sides[0] || !sides[1]) return undefined;
  const most = Math.min(chunkBytes, gpu.bufferBytes / 2) / (4 * V);
  const rows = Math.min(N, Math.max(128, Math.floor(most / 128) * 128));
  if (4 * rows * V > gpu.bufferBytes) return undefined;
  return { N, C, V, rows, fragments, hidden: sides[0], weight: sides[1] };
}

/** The backward pass reads the weight along V too, which codes packed along C do not allow. */
export function planCrossEntropyBackward(node: Node, gpu: GpuTraits): CrossEntropyPlan | undefined {
  const plan = planCrossEntropy(node, gpu);
  return plan && planSide(node.inputs[1].type, 'outer', plan.C, plan.V, gpu) ? plan : undefined;
}

const logitsSplits = ({ V, C, fragments }: CrossEntropyPlan, rows: number) =>
  tiling({ M: rows, N: V, K: C, batch: 1 }, fragments);
const hiddenSplits = ({ V, C, fragments }: CrossEntropyPlan, rows: number) =>
  tiling({ M: rows, N: C, K: V, batch: 1 }, fragments);
const weightSplits = ({ V, C, fragments }: CrossEntropyPlan, rows: number) =>
  tiling({ M: V, N: C, K: rows, batch: 1 }, fragments);

/** Words of scratch: bounds of hidden, weight and dnll; a chunk of logits; pieces of a product. */
function scratchWords(plan: CrossEntropyPlan, backward: boolean): number[] {
  const { V, C, rows } = plan;
  const pieces = (tiles: { splits: number }, count: number) => (tiles.splits > 1 ? tiles.splits * count : 0);
  const last = plan.N % rows || rows;
  const most = [rows, last].flatMap((r) => [
    pieces(logitsSplits(plan, r), r * V),
    ...(backward ? [pieces(hiddenSplits(plan, r), r * C), weightSplits(plan, r).splits * V * C] : []),
  ]);
  return [3 * boundWords, rows * V, Math.max(...most)];
}

export const crossEntropyScratch = (plan: CrossEntropyPlan, backward: boolean): number =>
  scratchSize(scratchWords(plan, backward));

interface Chunk {
  readonly plan: CrossEntropyPlan;
  readonly first: number;
  readonly rows: number;
  readonly hidden: DenseOperand;
  readonly weight: Operand;
  readonly targets: DenseOperand;
  readonly memory: ReturnType<typeof cutScratch>;
}

/** Rows first … first + rows − 1 of a dense matrix. */
function rowsOf(matrix: DenseOperand, first: number, rows: number): DenseOperand {
  const columns = matrix.shape[1];
  const { buffer, offset } = matrix.range;
  const range = { buffer, offset: offset + 4 * first * columns, bytes: alignedBytes(4 * rows * columns) };
  return { ...matrix, shape: [rows, columns], range };
}

const slots = { hidden: 0, weight: 1, dnll: 2 } as const;
/** Where the bound of an operand lies. */
const boundOf = ({ buffer, offset }: MemoryRange, name: keyof typeof slots): MemoryRange => ({
  buffer,
  offset: offset + 4 * boundWords * slots[name],
  bytes: 4 * boundWords,
});
const boundFor = (side: TensorSide, bounds: MemoryRange, name: keyof typeof slots) =>
  side.bounded ? { bound: boundOf(bounds, name) } : {};

/** logits = hidden · weightᵀ for the rows of a chunk. */
function logitsCommands({ plan, rows, hidden, weight, memory: [bounds, logits, pieces] }: Chunk): Command[] {
  return productCommands({
    ...{ M: rows, N: plan.V, K: plan.C, pieces },
    ...logitsSplits(plan, rows),
    a: { ...productSide(hidden, plan.hidden), ...boundFor(plan.hidden, bounds, 'hidden') },
    b: { ...productSide(weight, plan.weight), ...boundFor(plan.weight, bounds, 'weight') },
    y: toScratch(logits),
  });
}

/** Declares `most` and `all`, maximum and sum of the exponentials of row `item` of the logits. */
const normalizer = (logits: string) => `let base = item * words.quarter;
  var most = -infinity();
  for (var v = thread; v < words.quarter; v += ${threads}u) {
    let x = ${logits}[base + v];
    most = larger(most, larger(larger(x.x, x.y), larger(x.z, x.w)));
  }
  most = largest(thread, most);
  var all = 0.0;
  for (var v = thread; v < words.quarter; v += ${threads}u) {
    let x = ${logits}[base + v];
    all += (expOf(x.x - most) + expOf(x.y - most)) + (expOf(x.z - most) + expOf(x.w - most));
  }
  all = total(thread, all);`;
const prelude = mathSource + largestSource(threads) + totalSource(threads);

const countsSource = (targets: string) => `let id = ${targets}[words.first + item];
  let counts = id >= 0 && u32(id) < 4u * words.quarter;
  if (id >= 0 && !counts && thread == 0u) { report(${targetError}u, id); }`;

/** A workgroup for each row of a chunk, which knows its target and its normalizer. */
function rowCommand(
  { plan, first, rows, targets }: Chunk,
  bindings: Record<string, Binding>,
  body: (n: Names) => string,
): Command {
  return {
    bindings: { ...bindings, targets: read(targets) },
    words: { first, quarter: plan.V / 4 },
    reports: true,
    ...forEachGroup(
      rows,
      threads,
      (n) => `${countsSource(n.targets)}
  ${normalizer(n.logits)}
  ${body(n)}`,
      prelude,
    ),
  };
}

const nllCommand = (chunk: Chunk, nll: DenseOperand): Command =>
  rowCommand(
    chunk,
    { logits: fromScratch(chunk.memory[1], 'vec4<f32>'), nll: write(nll) },
    (n) => `if (thread == 0u) {
    let logit = ${n.logits}[base + u32(max(id, 0)) / 4u * u32(counts)][u32(max(id, 0)) % 4u];
    ${n.nll}[words.first + item] = select(0.0, (most - logit) + logOf(all), counts);
  }`,
  );

/** Puts G in the place of the logits. */
const slopesCommand = (chunk: Chunk, dnll: DenseOperand): Command =>
  rowCommand(
    chunk,
    { logits: toScratch(chunk.memory[1], 'vec4<f32>'), dnll: read(dnll) },
    (n) => `let g = select(0.0, ${n.dnll}[words.first + item], counts);
  let scale = g / all;
  for (var v = thread; v < words.quarter; v += ${threads}u) {
    let x = ${n.logits}[base + v];
    let hit = vec4u(4u * v) + vec4u(0u, 1u, 2u, 3u) == vec4u(u32(id));
    let p = vec4f(expOf(x.x - most), expOf(x.y - most), expOf(x.z - most), expOf(x.w - most));
    ${n.logits}[base + v] = select(vec4f(), p * scale - select(vec4f(), vec4f(g), hit), vec4<bool>(counts));
  }`,
  );

function chunksOf({ inputs, scratch }: EncodeContext, plan: CrossEntropyPlan, backward: boolean): Chunk[] {
  const memory = cutScratch(scratch, scratchWords(plan, backward));
  const [hidden, weight, targets] = [dense(inputs, 0), inputs[1], dense(inputs, 2)];
  return Array.from({ length: Math.ceil(plan.N / plan.rows) }, (_, i) => {
    const first = i * plan.rows;
    const rows = Math.min(plan.rows, plan.N - first);
    return { plan, first, rows, hidden: rowsOf(hidden, first, rows), weight, targets, memory };
  });
}

/** Looks for the bounds of the operands whose storage needs one. */
function boundsOf({ inputs }: EncodeContext, { plan, memory }: Chunk): Command[] {
  const sides = { hidden: plan.hidden, weight: plan.weight };
  return (['hidden', 'weight'] as const).flatMap((name, i) =>
    sides[name].bounded ? [boundCommand(inputs[i], sides[name].storage, boundOf(memory[0], name))] : [],
  );
}

export function encodeCrossEntropy(context: EncodeContext, plan: CrossEntropyPlan): Command[] {
  const chunks = chunksOf(context, plan, false);
  const nll = dense(context.outputs, 0);
  return [
    ...boundsOf(context, chunks[0]),
    ...chunks.flatMap((chunk) => [...logitsCommands(chunk), nllCommand(chunk, nll)]),
  ];
}

export function encodeCrossEntropyBackward(context: EncodeContext, plan: CrossEntropyPlan): Command[] {
  const { node, inputs, outputs } = context;
  const { weightGradient } = node.attributes as unknown as WeightGradientAttributes;
  const chunks = chunksOf(context, plan, true);
  const dnll = dense(inputs, 4);
  const gradients = chunks.flatMap((chunk, i) => {
    const { rows, first, hidden, weight, memory } = chunk;
    const [bounds, logits, pieces] = memory;
    const { V, C } = plan;
    const slopes = (contiguous: 'k' | 'outer'): ProductSide => ({
      storage: 'f32',
      contiguous,
      numbers: fromScratch(logits, 'vec4<f32>'),
      bound: boundOf(bounds, 'dnll'),
    });
    const other = (operand: Operand, side: TensorSide, name: 'hidden' | 'weight') => ({
      ...productSide(operand, { ...side, contiguous: 'outer' }),
      ...boundFor(side, bounds, name),
    });
    const y: Binding = write(rowsOf(dense(outputs, 0), first, rows));
    const toHidden = productCommands({
      ...{ M: rows, N: C, K: V, pieces, y },
      ...hiddenSplits(plan, rows),
      a: slopes('k'),
      b: other(weight, plan.weight, 'weight'),
    });
    const toWeight = () =>
      productCommands({
        ...{ M: V, N: C, K: rows, pieces, y: write(dense(outputs, 1)), accumulate: i > 0 },
        ...weightSplits(plan, rows),
        a: slopes('outer'),
        b: other(hidden, plan.hidden, 'hidden'),
      });
    return [...logitsCommands(chunk), slopesCommand(chunk, dnll), ...toHidden, ...(weightGradient ? toWeight() : [])];
  });
  const slopeBound = boundCommand(dnll, 'f32', boundOf(chunks[0].memory[0], 'dnll'));
  return [...boundsOf(context, chunks[0]), slopeBound, ...gradients];
}
