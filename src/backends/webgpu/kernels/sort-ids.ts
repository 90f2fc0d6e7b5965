// Positions in the order of their ids: a stable radix sort, eight bits a pass, without atomics.
//
// A workgroup of 256 threads has a block of 256 positions. Three dispatches a pass: thread d of each block counts the
// positions whose digit is d; one workgroup turns the counts, digit by digit and block by block, into first places (one
// thread a digit walks its blocks; digits are scanned in 1 KB of workgroup memory); then each thread finds its position's
// rank among the equal digits before it in the block and writes the position to its place. Ids outside the table count as
// `rows`, so they come last. No features.

import { forEachGroup } from '../entry.ts';
import { type Command, type DenseOperand, type MemoryRange, type Names, read } from '../kernel.ts';
import { fromScratch, toScratch } from '../scratch.ts';

const block = 256;
const digits = 256;

const blocksOf = (count: number) => Math.ceil(count / block);

/** Passes over ids 0 … rows, where `rows` stands for all others. */
const passesOf = (rows: number) => Math.max(1, Math.ceil(Math.log2(rows + 1) / 8));

/** Words of scratch memory: the order, another order, the counts. */
export const sortWords = (count: number): number[] => [count, count, digits * blocksOf(count)];

/** WGSL: `keyAt(position)`, an id of the table or `rows`. */
export const keySource = (n: Names, rows: number) => `
fn keyAt(position: u32) -> u32 { return min(bitcast<u32>(${n.ids}[position]), ${rows}u); }
`;

/** The commands of the sort, and where the sorted positions lie: one of the two orders. */
export function sortIds(
  ids: DenseOperand,
  count: number,
  rows: number,
  [first, second, counts]: readonly MemoryRange[],
): { commands: Command[]; order: MemoryRange } {
  const blocks = blocksOf(count);
  const commands: Command[] = [];
  let [from, to]: [MemoryRange | undefined, MemoryRange] = [undefined, first];
  for (let pass = 0; pass < passesOf(rows); pass++) {
    const source = from;
    /** Statements that set `position` and `digit` of item i of the pass; 256 is no digit. */
    const digitOf = (n: Names) => `let i = item * ${block}u + thread;
  let position = ${source ? `${n.order}[min(i, words.count - 1u)]` : 'min(i, words.count - 1u)'};
  let digit = select(${digits}u, (keyAt(position) >> ${8 * pass}u) & 255u, i < words.count);
  all[thread] = digit;
  workgroupBarrier();`;
    const bindings = { ids: read(ids), ...(source && { order: fromScratch(source, 'u32') }) };
    const prelude = (n: Names) => `${keySource(n, rows)}var<workgroup> all: array<u32, ${block}>;\n`;
    commands.push(
      {
        label: 'counts',
        bindings: { ...bindings, counts: toScratch(counts, 'u32') },
        words: { count, blocks },
        ...forEachGroup(
          blocks,
          block,
          (n) => `${digitOf(n)}
  var found = 0u;
  for (var j = 0u; j < ${block}u; j++) { found += select(0u, 1u, all[j] == thread); }
  ${n.counts}[thread * words.blocks + item] = found;`,
          prelude,
        ),
      },
      {
        label: 'places',
        bindings: { counts: toScratch(counts, 'u32') },
        words: { blocks },
        ...forEachGroup(
          1,
          digits,
          (n) => `let mine = thread * words.blocks;
  var sum = 0u;
  for (var b = 0u; b < words.blocks; b++) { sum += ${n.counts}[mine + b]; }
  sums[thread] = sum;
  workgroupBarrier();
  var place = 0u;
  for (var d = 0u; d < thread; d++) { place += sums[d]; }
  for (var b = 0u; b < words.blocks; b++) {
    let found = ${n.counts}[mine + b];
    ${n.counts}[mine + b] = place;
    place += found;
  }`,
          `var<workgroup> sums: array<u32, ${digits}>;\n`,
        ),
      },
      {
        label: 'order',
        bindings: { ...bindings, counts: fromScratch(counts, 'u32'), sorted: toScratch(to, 'u32') },
        words: { count, blocks },
        ...forEachGroup(
          blocks,
          block,
          (n) => `${digitOf(n)}
  var place = 0u;
  for (var j = 0u; j < thread; j++) { place += select(0u, 1u, all[j] == digit); }
  if (i < words.count) { ${n.sorted}[${n.counts}[digit * words.blocks + item] + place] = position; }`,
          prelude,
        ),
      },
    );
    [from, to] = [to, to === first ? second : first];
  }
  return { commands, order: from! };
}
