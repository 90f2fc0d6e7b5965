// sortByExpert: slots in the order of their experts, each expert from a multiple of the block on.
//
// routes.ts lists the slots by expert; then one thread for each row of the result finds its expert by walking over the
// experts' blocks. No features.

import type { SortByExpertAttributes } from '../../../graph/ops/sort-by-expert.ts';
import { elementCount } from '../../../tensor/shape.ts';
import { forEachItem } from '../entry.ts';
import { dense, type KernelTable, type OpKernel, write } from '../kernel.ts';
import { cutScratch, scratchSize } from '../scratch.ts';
import { readRoutes, routeWords, sortRoutes } from './routes.ts';

const sortByExpert: OpKernel = {
  scratchBytes: ({ inputs: [indices], attributes }) =>
    scratchSize(
      routeWords(elementCount(indices.type.shape), (attributes as unknown as SortByExpertAttributes).experts),
    ),
  encode({ node, inputs, outputs, scratch }) {
    const { experts, block } = node.attributes as unknown as SortByExpertAttributes;
    const indices = dense(inputs, 0);
    const count = elementCount(indices.shape);
    const [offsets, order] = cutScratch(scratch, routeWords(count, experts));
    const [slots, rows, expertOf, places] = [0, 1, 2, 3].map((i) => dense(outputs, i));
    const perRow = indices.shape[1];
    const place = forEachItem(
      elementCount(slots.shape),
      (n) => `var first = 0u;
  var expert = 0u;
  var held = 0u;
  for (; expert < ${experts}u; expert++) {
    held = ${n.offsets}[expert + 1u] - ${n.offsets}[expert];
    let blocks = (held + ${block - 1}u) / ${block}u;
    if (i < first + blocks * ${block}u) { break; }
    first += blocks * ${block}u;
  }
  ${n.expertOf}[i] = i32(min(expert, ${experts - 1}u));
  if (expert < ${experts}u && i - first < held) {
    let slot = ${n.order}[${n.offsets}[expert] + i - first];
    ${n.slots}[i] = i32(slot);
    ${n.rows}[i] = i32(slot / ${perRow}u);
    ${n.places}[slot] = i32(i);
  } else {
    ${n.slots}[i] = ${count};
    ${n.rows}[i] = ${count / perRow};
  }`,
    );
    const bindings = {
      ...readRoutes({ offsets, order }),
      ...{ slots: write(slots), rows: write(rows), expertOf: write(expertOf), places: write(places) },
    };
    return [sortRoutes(indices, experts, { offsets, order }), { bindings, ...place }];
  },
};

export const sortByExpertKernels: KernelTable = { sortByExpert };
