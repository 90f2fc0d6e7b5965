// The norm of all gradients and the guard of an update: sumSquares, holdUpdates.
//
// sumSquares: a workgroup of 256 threads sums the squares of up to 4096 numbers of one value, read four at a time, then
// a workgroup of 64 threads for each value adds these parts up. Sums are carried in two floats and combined by halving
// (8 bytes of workgroup memory a thread); the parts lie in scratch memory between the two, four numbers each, so that
// they can be bound together with values of the same buffer. Values in one buffer are one dispatch. holdUpdates: one
// thread for each number. No features.

import type { Node } from '../../../graph/graph.ts';
import { elementCount } from '../../../tensor/shape.ts';
import { forEachGroup, forEachItem } from '../entry.ts';
import { type Command, dense, type KernelTable, type MemoryRange, type OpKernel, read, write } from '../kernel.ts';
import { chunksOf, sharedRanges } from '../many.ts';
import { cutScratch, fromScratch, scratchSize, toScratch } from '../scratch.ts';
import { exactTotalSource, plusSource } from '../wgsl/combine.ts';

const partThreads = 256;
const totalThreads = 64;

const chunkCount = (count: number) => chunksOf(Math.ceil(count / 4)).length;
const partWords = ({ inputs }: Node) =>
  inputs.reduce((sum, { type }) => sum + 4 * chunkCount(elementCount(type.shape)), 0);

/** Place in vectors, numbers from there, and where the part goes. */
type Entry = readonly [place: number, count: number, part: number];

interface Member {
  readonly range: MemoryRange;
  readonly count: number;
  /** Number of its first part. */
  readonly part: number;
}

/** The parts of values that lie in one buffer. */
function partsOf(members: readonly Member[], scratch: MemoryRange): Command {
  const [range, space] = sharedRanges([members.map((member) => member.range), [scratch]]);
  const entries = members.flatMap((member) =>
    chunksOf(Math.ceil(member.count / 4)).map(({ start, count }, c): Entry => {
      const place = (member.range.offset - range.offset) / 16 + start;
      return [place, Math.min(4 * count, member.count - 4 * start), member.part + c];
    }),
  );
  return {
    label: 'parts',
    bindings: { x: { range, access: 'read', type: 'vec4<f32>' }, parts: toScratch(space, 'vec4<f32>') },
    words: { first: (scratch.offset - space.offset) / 16 },
    tables: { entries: Uint32Array.from(entries.flat()) },
    ...forEachGroup(
      entries.length,
      partThreads,
      (n) => `let place = ${n.entries}[item * 3u];
  let count = ${n.entries}[item * 3u + 1u];
  var all = vec2f();
  for (var i = thread; i * 4u < count; i += ${partThreads}u) {
    let four = ${n.x}[place + i];
    for (var j = 0u; j < min(4u, count - i * 4u); j++) { all = plus(all, four[j] * four[j]); }
  }
  all = exactTotal(thread, all);
  if (thread == 0u) { ${n.parts}[words.first + ${n.entries}[item * 3u + 2u]] = vec4f(all, 0.0, 0.0); }`,
      plusSource + exactTotalSource(partThreads),
    ),
  };
}

const sumSquares: OpKernel = {
  scratchBytes: (node) => scratchSize([partWords(node)]),
  encode({ node, inputs, outputs, scratch }) {
    const y = dense(outputs, 0);
    const [space] = cutScratch(scratch, [partWords(node)]);
    const groups = new Map<GPUBuffer, Member[]>();
    const totals: number[] = [];
    let part = 0;
    for (const i of inputs.keys()) {
      const { shape, range } = dense(inputs, i);
      const count = elementCount(shape);
      groups.set(range.buffer, [...(groups.get(range.buffer) ?? []), { range, count, part }]);
      totals.push(part, chunkCount(count));
      part += chunkCount(count);
    }
    const total: Command = {
      label: 'totals',
      bindings: { parts: fromScratch(space, 'vec4<f32>'), y: write(y) },
      tables: { values: Uint32Array.from(totals) },
      ...forEachGroup(
        inputs.length,
        totalThreads,
        (n) => `let first = ${n.values}[item * 2u];
  let count = ${n.values}[item * 2u + 1u];
  var all = vec2f();
  for (var i = thread; i < count; i += ${totalThreads}u) {
    let part = ${n.parts}[first + i];
    all = plus(plus(all, part.x), part.y);
  }
  all = exactTotal(thread, all);
  if (thread == 0u) { ${n.y}[item] = all.x + all.y; }`,
        plusSource + exactTotalSource(totalThreads),
      ),
    };
    return [...[...groups.values()].map((members) => partsOf(members, space)), total];
  },
};

/** Plain comparisons may be optimized away under the assumption that there is no NaN: the exponent's bits tell. */
const holdUpdates: OpKernel = {
  encode({ inputs }) {
    const x = dense(inputs, 0);
    return [
      {
        bindings: { x: read(x, 'u32') },
        reports: true,
        ...forEachItem(
          elementCount(x.shape),
          (n) => `if ((${n.x}[i] & 0x7f800000u) == 0x7f800000u) { holdUpdates(); }`,
        ),
      },
    ];
  },
};

export const stepKernels: KernelTable = { sumSquares, holdUpdates };
