// embeddingBackward: the sum of the gradients of each id, in the order of their positions, without atomics.
//
// Positions are sorted by their ids (sort-ids.ts), so that those of an id are neighbours. Every row of the table becomes
// zero, one thread a number. Then one thread for each 32 sorted positions and channel adds up runs of equal ids, whatever
// their length, so that a frequent id is the work of many threads: sums of ids that begin and end among the 32 go to the
// table, those of an id that began before or goes on behind them to scratch memory, from which one thread for each such
// id and channel adds them up. Neighbouring threads read neighbouring channels; sums are carried in two floats. An id
// outside the table is reported and adds nothing. No features.

import { elementCount } from '../../../tensor/shape.ts';
import { expertIndexError } from '../../data-error-codes.ts';
import { forEachItem } from '../entry.ts';
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
import { keySource, sortIds, sortWords } from './sort-ids.ts';

/** Sorted positions that a thread adds up. */
const chunk = 32;

function clear(dtable: DenseOperand): Command {
  return {
    label: 'zeros',
    bindings: { dtable: write(dtable, 'vec4<u32>') },
    ...forEachItem(Math.ceil(elementCount(dtable.shape) / 4), (n) => `${n.dtable}[i] = vec4u();`),
  };
}

interface Operands {
  readonly ids: DenseOperand;
  readonly order: MemoryRange;
  /** Sums of runs that began before the chunk, and of runs that go on behind it. */
  readonly heads: MemoryRange;
  readonly tails: MemoryRange;
  readonly dtable: DenseOperand;
}

const prelude = (n: Names, rows: number) => `${plusSource}${keySource(n, rows)}
fn keyOf(place: u32) -> u32 { return keyAt(${n.order}[place]); }
`;

/** The sums of the runs of each chunk. */
function addRuns({ ids, order, heads, tails, dtable }: Operands, dy: DenseOperand): Command {
  const [rows, C] = dtable.shape;
  const count = elementCount(ids.shape);
  const body = (n: Names) => `let c = i % words.C;
  let begin = i / words.C * ${chunk}u;
  let end = min(begin + ${chunk}u, words.count);
  var key = keyOf(begin);
  /* whether the run began before the chunk */
  var isHead = false;
  if (begin > 0u) { isHead = keyOf(begin - 1u) == key; }
  var sum = vec2f();
  for (var place = begin; place < end; place++) {
    let position = ${n.order}[place];
    let next = keyAt(position);
    if (next != key) {
      if (isHead) { ${n.heads}[i] = sum; } else { ${n.dtable}[key * words.C + c] = sum.x + sum.y; }
      isHead = false;
      key = next;
      sum = vec2f();
    }
    if (key == ${rows}u) {
      if (c == 0u) { report(${expertIndexError}u, ${n.ids}[position]); }
      return;
    }
    sum = plus(sum, ${n.dy}[position * words.C + c]);
  }
  var goesOn = false;
  if (end < words.count) { goesOn = keyOf(end) == key; }
  if (isHead) { ${n.heads}[i] = sum; }
  else if (goesOn) { ${n.tails}[i] = sum; }
  else { ${n.dtable}[key * words.C + c] = sum.x + sum.y; }`;
  return {
    label: 'runs',
    bindings: {
      ids: read(ids),
      dy: read(dy),
      order: fromScratch(order, 'u32'),
      heads: toScratch(heads, 'vec2<f32>'),
      tails: toScratch(tails, 'vec2<f32>'),
      dtable: write(dtable),
    },
    words: { C, count },
    reports: true,
    ...forEachItem(Math.ceil(count / chunk) * C, body, (n) => prelude(n, rows)),
  };
}

/** The sums of ids whose run goes on behind the chunk in which it begins. */
function joinRuns({ ids, order, heads, tails, dtable }: Operands): Command {
  const [rows, C] = dtable.shape;
  const count = elementCount(ids.shape);
  const body = (n: Names) => `let c = i % words.C;
  let begin = i / words.C * ${chunk}u;
  var end = begin + ${chunk}u;
  if (end >= words.count) { return; }
  let key = keyOf(end);
  if (key == ${rows}u || keyOf(end - 1u) != key) { return; }
  /* a run over the whole chunk belongs to an earlier one */
  if (begin > 0u && keyOf(begin) == key) { if (keyOf(begin - 1u) == key) { return; } }
  var sum = ${n.tails}[i];
  for (var at = i + words.C; end < words.count; at += words.C) {
    if (keyOf(end) != key) { break; }
    let part = ${n.heads}[at];
    sum = plus(plus(sum, part.x), part.y);
    end += ${chunk}u;
    if (keyOf(min(end, words.count) - 1u) != key) { break; }
  }
  ${n.dtable}[key * words.C + c] = sum.x + sum.y;`;
  return {
    label: 'joined runs',
    bindings: {
      ids: read(ids),
      order: fromScratch(order, 'u32'),
      heads: fromScratch(heads, 'vec2<f32>'),
      tails: fromScratch(tails, 'vec2<f32>'),
      dtable: write(dtable),
    },
    words: { C, count },
    ...forEachItem(Math.ceil(count / chunk) * C, body, (n) => prelude(n, rows)),
  };
}

function scratchWords(count: number, C: number): number[] {
  const sums = 2 * Math.ceil(count / chunk) * C;
  return [...sortWords(count), sums, sums];
}

const embeddingBackward: OpKernel = {
  scratchBytes: ({ inputs: [ids], outputs: [dtable] }) =>
    scratchSize(scratchWords(elementCount(ids.type.shape), dtable.type.shape[1])),
  encode({ inputs, outputs, scratch }) {
    const [ids, dy, dtable] = [dense(inputs, 0), dense(inputs, 1), dense(outputs, 0)];
    const [rows, C] = dtable.shape;
    const count = elementCount(ids.shape);
    const [first, second, counts, heads, tails] = cutScratch(scratch, scratchWords(count, C));
    const { commands, order } = sortIds(ids, count, rows, [first, second, counts]);
    const operands = { ids, order, heads, tails, dtable };
    return [...commands, clear(dtable), addRuns(operands, dy), joinRuns(operands)];
  },
};

export const embeddingBackwardKernels: KernelTable = { embeddingBackward };
