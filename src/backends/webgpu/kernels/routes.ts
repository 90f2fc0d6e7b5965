// Rows that are routed to experts, sorted by expert, for products that read each expert's matrix once.
//
// indices i32 [N, k] hold an expert for each of the N·k slots. One workgroup of 256 threads for each expert lists its
// slots in ascending order: each thread counts the slots of a stretch of the indices that belong to the expert and to
// lower ones, then writes those of the expert behind what the threads before it counted (2 KB of workgroup memory). No
// atomics: the order is always the same. An index outside is reported and its slot counts for expert 0. No features.

import { elementCount } from '../../../tensor/shape.ts';
import { expertIndexError } from '../../data-error-codes.ts';
import { forEachGroup } from '../entry.ts';
import { type Binding, type Command, type DenseOperand, type MemoryRange, type Names, read } from '../kernel.ts';
import { fromScratch, toScratch } from '../scratch.ts';
import { tileSide } from '../wgsl/tile.ts';

const threads = 256;

/** Slots by expert: those of expert e are order[offsets[e]] … order[offsets[e + 1] − 1]. */
export interface Routes {
  readonly offsets: MemoryRange;
  readonly order: MemoryRange;
}

/** Words of scratch memory for offsets and order. */
export const routeWords = (slots: number, experts: number) => [experts + 1, slots];

export function sortRoutes(indices: DenseOperand, experts: number, { offsets, order }: Routes): Command {
  const slots = elementCount(indices.shape);
  const body = (n: Names) => `let stretch = (words.slots + ${threads - 1}u) / ${threads}u;
  let first = thread * stretch;
  let end = min(words.slots, first + stretch);
  var lower = 0u;
  var own = 0u;
  for (var slot = first; slot < end; slot++) {
    let index = ${n.indices}[slot];
    let outside = u32(index) >= words.experts;
    if (outside && item == 0u) { report(${expertIndexError}u, index); }
    let expert = select(u32(index), 0u, outside);
    lower += select(0u, 1u, expert < item);
    own += select(0u, 1u, expert == item);
  }
  counts[thread] = vec2u(lower, own);
  workgroupBarrier();
  var at = 0u;
  for (var j = 0u; j < ${threads}u; j++) { at += counts[j].x + select(0u, counts[j].y, j < thread); }
  if (thread == 0u) {
    ${n.offsets}[item] = at;
    if (item == 0u) { ${n.offsets}[words.experts] = words.slots; }
  }
  for (var slot = first; slot < end; slot++) {
    let index = ${n.indices}[slot];
    if (select(u32(index), 0u, u32(index) >= words.experts) == item) {
      ${n.order}[at] = slot;
      at++;
    }
  }`;
  return {
    bindings: { indices: read(indices), offsets: toScratch(offsets, 'u32'), order: toScratch(order, 'u32') },
    words: { slots, experts },
    reports: true,
    ...forEachGroup(experts, threads, body, `var<workgroup> counts: array<vec2u, ${threads}>;\n`),
  };
}

/** Bindings `offsets` and `order` for a kernel that reads them. */
export const readRoutes = ({ offsets, order }: Routes): Record<'offsets' | 'order', Binding> => ({
  offsets: fromScratch(offsets, 'u32'),
  order: fromScratch(order, 'u32'),
});

/** For findRows and findTile. */
export const placeSource = 'var<workgroup> place: vec3u;\n';

/** Statements that set `rows` to (expert, its first place in order, the place after its last), in uniform control flow. */
export const findRows = (offsets: string, expert: string) => `if (thread == 0u) {
    place = vec3u(${expert}, ${offsets}[${expert}], ${offsets}[${expert} + 1u]);
  }
  let rows = workgroupUniformLoad(&place);`;

/** Tiles of rows that are enough for every way to route the slots. */
export const routedTiles = (slots: number, experts: number) => Math.floor(slots / tileSide) + Math.min(slots, experts);

/** As findRows for tile number `tile` of the rows of all experts; returns from main when there are fewer. */
export const findTile = (offsets: string, tile: string, experts: number) => `if (thread == 0u) {
    var rest = ${tile};
    place = vec3u();
    for (var expert = 0u; expert < ${experts}u; expert++) {
      let tiles = (${offsets}[expert + 1u] - ${offsets}[expert] + ${tileSide - 1}u) / ${tileSide}u;
      if (rest < tiles) {
        place = vec3u(expert, ${offsets}[expert] + rest * ${tileSide}u, ${offsets}[expert + 1u]);
        break;
      }
      rest -= tiles;
    }
  }
  let rows = workgroupUniformLoad(&place);
  if (rows.y == rows.z) { return; }`;
