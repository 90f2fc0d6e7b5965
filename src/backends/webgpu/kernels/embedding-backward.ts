// embeddingBackward: the sum of the gradients of each id, in the order of their positions, without atomics.
//
// Three dispatches. Every row of the table becomes zero, one thread a number. One thread for each position compares its
// id with all others, which pass through workgroup memory 256 at a time (1 KB), and notes the next position with the
// same id, and whether it is the first (N² comparisons; scratch memory: a word a position). Then one thread for each
// first position and channel follows the chain; neighbouring threads read neighbouring channels, and sums are carried
// in two floats. No features.

import { elementCount } from '../../../tensor/shape.ts';
import { expertIndexError } from '../../data-error-codes.ts';
import { forEachGroup, forEachItem } from '../entry.ts';
import {
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
import { plusSource } from '../wgsl/combine.ts';

const threads = 256;
/** Marks the first position of an id; the other bits are the next position, the number of positions at the end. */
const firstMark = '0x80000000u';

function clear(dtable: DenseOperand): Command {
  return {
    bindings: { dtable: write(dtable, 'u32') },
    ...forEachItem(elementCount(dtable.shape), (n) => `${n.dtable}[i] = 0u;`),
  };
}

function chain(ids: DenseOperand, links: MemoryRange, rows: number): Command {
  const count = elementCount(ids.shape);
  const body = (n: Names) => `let position = item * ${threads}u + thread;
  let id = ${n.ids}[min(position, words.count - 1u)];
  var first = true;
  var next = words.count;
  for (var base = 0u; base < words.count; base += ${threads}u) {
    workgroupBarrier();
    others[thread] = ${n.ids}[min(base + thread, words.count - 1u)];
    workgroupBarrier();
    for (var j = 0u; j < min(${threads}u, words.count - base); j++) {
      if (others[j] == id) {
        let other = base + j;
        if (other < position) { first = false; }
        if (other > position && next == words.count) { next = other; }
      }
    }
  }
  if (position < words.count) {
    if (u32(id) >= words.rows) { report(${expertIndexError}u, id); first = false; }
    ${n.links}[position] = next | select(0u, ${firstMark}, first);
  }`;
  return {
    bindings: { ids: read(ids), links: toScratch(links, 'u32') },
    words: { count, rows },
    reports: true,
    ...forEachGroup(Math.ceil(count / threads), threads, body, `var<workgroup> others: array<i32, ${threads}>;\n`),
  };
}

function gather(ids: DenseOperand, dy: DenseOperand, links: MemoryRange, dtable: DenseOperand): Command {
  const C = dtable.shape[1];
  const count = elementCount(ids.shape);
  const body = (n: Names) => `let c = i % words.C;
  var position = i / words.C;
  var link = ${n.links}[position];
  if (link < ${firstMark}) { return; }
  let id = u32(${n.ids}[position]);
  var sum = vec2f(${n.dy}[i], 0.0);
  for (position = link & ~${firstMark}; position < words.count; position = ${n.links}[position]) {
    sum = plus(sum, ${n.dy}[position * words.C + c]);
  }
  ${n.dtable}[id * words.C + c] = sum.x + sum.y;`;
  return {
    bindings: { ids: read(ids), dy: read(dy), links: fromScratch(links, 'u32'), dtable: write(dtable) },
    words: { C, count },
    ...forEachItem(count * C, body, plusSource),
  };
}

const embeddingBackward: OpKernel = {
  scratchBytes: ({ inputs: [ids] }) => scratchSize([elementCount(ids.type.shape)]),
  encode({ inputs, outputs, scratch }) {
    const [ids, dy, dtable] = [dense(inputs, 0), dense(inputs, 1), dense(outputs, 0)];
    const [links] = cutScratch(scratch, [elementCount(ids.shape)]);
    return [clear(dtable), chain(ids, links, dtable.shape[0]), gather(ids, dy, links, dtable)];
  },
};

export const embeddingBackwardKernels: KernelTable = { embeddingBackward };
