// reduce: sums, means and maxima over any axes.
//
// Where the innermost dimension is reduced, a workgroup of 32 … 256 threads gathers one result: each thread takes every
// threads-th element, then the parts are combined by halving (8 bytes a thread of workgroup memory). Where it is kept,
// one thread gathers one result, so that neighbouring threads read neighbouring elements. Few results of many elements
// each are gathered in parts, side by side, which lie in scratch memory until one thread a result combines them. Sums are
// carried in two floats. No features.

import type { Node } from '../../../graph/graph.ts';
import type { ReduceAttributes } from '../../../graph/ops/reduce.ts';
import { elementCount } from '../../../tensor/shape.ts';
import { roles } from '../../dimensions.ts';
import { forEachGroup, forEachItem, rowThreads } from '../entry.ts';
import {
  type Binding,
  type Command,
  type DenseOperand,
  dense,
  type KernelTable,
  type MemoryRange,
  type Names,
  type OpKernel,
  read,
  write,
} from '../kernel.ts';
import { cutScratch, fromScratch, scratchSize, toScratch } from '../scratch.ts';
import { exactTotalSource, largestSource, plusSource } from '../wgsl/combine.ts';
import { mathSource } from '../wgsl/math.ts';
import { offsetOf } from '../wgsl/offsets.ts';

interface Plan {
  readonly kind: ReduceAttributes['kind'];
  readonly kept: ReturnType<typeof roles>;
  readonly reduced: ReturnType<typeof roles>;
  readonly isInner: boolean;
  /** Results, elements of each, parts in which they are gathered. */
  readonly count: number;
  readonly length: number;
  readonly parts: number;
}

/** Threads or workgroups that fill a large device, and the least elements that are worth a part. */
const [fullThreads, fullGroups] = [2 ** 16, 512];
const [threadPart, groupPart] = [64, 4096];

function planOf({ inputs, outputs, attributes }: Node): Plan {
  const { kind, axes } = attributes as unknown as ReduceAttributes;
  const dims = roles(inputs[0].type.shape, axes);
  const count = elementCount(outputs[0].type.shape);
  const length = elementCount(inputs[0].type.shape) / count;
  const isInner = dims[dims.length - 1].reduced;
  const [full, least] = isInner ? [fullGroups, groupPart] : [fullThreads, threadPart];
  return {
    ...{ kind, isInner, count, length },
    kept: dims.filter((d) => !d.reduced),
    reduced: dims.filter((d) => d.reduced),
    parts: Math.max(1, Math.min(Math.ceil(full / count), Math.floor(length / least))),
  };
}

const isMax = ({ kind }: Plan) => kind === 'max';
const nothing = (plan: Plan) => (isMax(plan) ? '-infinity()' : 'vec2f()');
const preludeOf = (plan: Plan) => (isMax(plan) ? mathSource : plusSource);
const resultOf = ({ kind, length }: Plan) =>
  ({ max: 'all', sum: 'all.x + all.y', mean: `(all.x + all.y) / ${length}.0` })[kind];

/** Gathers every result, or with `to` every part of each: part p takes elements p · span … of the length. */
function gather(plan: Plan, x: DenseOperand, to: Binding, isPart: boolean): Command {
  const { kept, reduced, isInner, count, length, parts } = plan;
  const span = Math.ceil(length / parts);
  const loop = (
    n: Names,
    item: string,
    thread: string,
    stride: number,
  ) => `${offsetOf(kept, `(${item} / ${parts}u)`, 'base')}
  let begin = ${item} % ${parts}u * ${span}u;
  var all = ${nothing(plan)};
  for (var j = begin + ${thread}; j < min(begin + ${span}u, ${length}u); j += ${stride}u) {
    ${offsetOf(reduced, 'j', 'in')}
    all = ${isMax(plan) ? 'larger' : 'plus'}(all, ${n.x}[base0 + in0]);
  }`;
  const stored = isPart ? (isMax(plan) ? 'vec2f(all, 0.0)' : 'all') : resultOf(plan);
  const bindings = { x: read(x), y: to };
  if (!isInner) {
    // neighbouring threads gather neighbouring results of one part
    const place = parts > 1 ? `(i % ${count}u * ${parts}u + i / ${count}u)` : 'i';
    const body = (n: Names) => `let place = ${place};
  ${loop(n, 'place', '0u', 1)}
  ${n.y}[place] = ${stored};`;
    return { bindings, ...forEachItem(count * parts, body, preludeOf(plan)) };
  }
  const threads = rowThreads(span);
  const [combine, name] = isMax(plan) ? [largestSource(threads), 'largest'] : [exactTotalSource(threads), 'exactTotal'];
  const body = (n: Names) => `${loop(n, 'item', 'thread', threads)}
  all = ${name}(thread, all);
  if (thread == 0u) { ${n.y}[item] = ${stored}; }`;
  return { bindings, ...forEachGroup(count * parts, threads, body, preludeOf(plan) + combine) };
}

/** One thread a result adds up its parts. */
function combineParts(plan: Plan, parts: MemoryRange, y: DenseOperand): Command {
  const add = (part: string) => (isMax(plan) ? `larger(all, ${part}.x)` : `plus(plus(all, ${part}.x), ${part}.y)`);
  const body = (n: Names) => `var all = ${nothing(plan)};
  for (var p = i * ${plan.parts}u; p < (i + 1u) * ${plan.parts}u; p++) {
    let part = ${n.parts}[p];
    all = ${add('part')};
  }
  ${n.y}[i] = ${resultOf(plan)};`;
  return {
    label: 'parts',
    bindings: { parts: fromScratch(parts, 'vec2<f32>'), y: write(y) },
    ...forEachItem(plan.count, body, preludeOf(plan)),
  };
}

const partWords = ({ count, parts }: Plan) => (parts > 1 ? [2 * count * parts] : []);

const reduce: OpKernel = {
  scratchBytes: (node) => scratchSize(partWords(planOf(node))),
  encode({ node, inputs, outputs, scratch }) {
    const plan = planOf(node);
    const [x, y] = [dense(inputs, 0), dense(outputs, 0)];
    if (plan.parts === 1) return [gather(plan, x, write(y), false)];
    const [parts] = cutScratch(scratch, partWords(plan));
    return [gather(plan, x, toScratch(parts, 'vec2<f32>'), true), combineParts(plan, parts, y)];
  },
};

export const reduceKernels: KernelTable = { reduce };
