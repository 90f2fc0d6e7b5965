// Rows sorted by expert, and the gradient of experts' weights alone (kernels/engine/matmul-expert-backward.ts).

import type { SortByExpertAttributes } from '../../../graph/ops/sort-by-expert.ts';
import { elementCount } from '../../../tensor/shape.ts';
import { alignedBytes } from '../allocator.ts';
import { dense, type OpEncoder } from '../encoder.ts';
import { expertSortKernel, expertWeightGradientKernel, sortByExpertKernel } from '../kernel-ids.ts';
import { f32ThreadBytes } from '../matmul.ts';

/** Bytes of the list of expertSort. */
const listBytes = (experts: number, slots: number) => alignedBytes(4 * (experts + 1 + slots));

export const sortByExpertEncoder: OpEncoder = {
  scratchBytes: ({ inputs: [indices], attributes }) =>
    listBytes((attributes as unknown as SortByExpertAttributes).experts, elementCount(indices.type.shape)),
  encode({ node, inputs, outputs, scratch }) {
    const { experts, block } = node.attributes as unknown as SortByExpertAttributes;
    const indices = dense(inputs, 0);
    const slots = elementCount(indices.shape);
    const to = outputs.map((_, i) => dense(outputs, i));
    const sizes = [slots, indices.shape[1], experts, block, elementCount(to[0].shape)];
    return [
      { kernel: expertSortKernel, args: [indices.address, slots, experts, scratch] },
      { kernel: sortByExpertKernel, args: [scratch, ...to.map(({ address }) => address), ...sizes] },
    ];
  },
};

const threadBytes = f32ThreadBytes + 128;

export const expertWeightGradientEncoder: OpEncoder = {
  scratchBytes: ({ inputs: [, , indices], outputs: [dweight] }, threads) =>
    listBytes(dweight.type.shape[0], elementCount(indices.type.shape)) + threads * threadBytes,
  encode({ inputs, outputs, scratch }) {
    const [x, dy, indices] = inputs.map((_, i) => dense(inputs, i));
    const target = dense(outputs, 0);
    const [experts, M, K] = target.shape;
    const slots = elementCount(indices.shape);
    const own = scratch + listBytes(experts, slots);
    const slotsPerRow = x.shape.length === 2 ? indices.shape[1] : 1;
    const words = [experts, M, K, scratch, dy.address, x.address, slotsPerRow, target.address, own, threadBytes];
    return [
      { kernel: expertSortKernel, args: [indices.address, slots, experts, scratch] },
      { kernel: expertWeightGradientKernel, args: words },
    ];
  },
};
