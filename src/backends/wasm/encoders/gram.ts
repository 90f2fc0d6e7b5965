// Encoder of the op `gramUpdate` (kernels/engine/gram.ts).

import type { Node } from '../../../graph/graph.ts';
import type { GramAttributes } from '../../../graph/ops/gram.ts';
import { elementCount } from '../../../tensor/shape.ts';
import { alignedBytes } from '../allocator.ts';
import { dense, type OpEncoder } from '../encoder.ts';
import { expertSortKernel, gramKernel } from '../kernel-ids.ts';

/** Scratch of one thread: threadScratch of the kernel. */
const threadBytes = (6 + 128) * 512 * 4 + 256;

/** Matrices, K, rows in all, and of routed rows the number of slots that share a row of a. */
function sizes(node: Node) {
  const { cross, routed } = node.attributes as unknown as GramAttributes;
  const [gram, a, ...rest] = node.inputs.map((v) => v.type.shape);
  const indices = routed ? rest[cross ? 1 : 0] : undefined;
  const K = gram[gram.length - 1];
  const slots = indices ? elementCount(indices) : elementCount(a) / K;
  return {
    cross,
    routed,
    K,
    experts: routed ? gram[0] : 1,
    slots,
    divisor: indices && a.length === 2 ? indices[1] : 1,
  };
}

export const gramUpdateEncoder: OpEncoder = {
  scratchBytes(node, threads) {
    const { routed, experts, slots } = sizes(node);
    return threads * threadBytes + (routed ? alignedBytes(4 * (experts + 1 + slots)) : 0);
  },

  encode({ node, inputs, scratch, threads }) {
    const { cross, routed, K, experts, slots, divisor } = sizes(node);
    const [gram, a] = [dense(inputs, 0), dense(inputs, 1)];
    const b = cross ? dense(inputs, 2) : a;
    const list = routed ? scratch + threads * threadBytes : 0;
    const sizeWords = [slots, K, gram.address, cross ? 0 : 1, experts, list, divisor, scratch];
    const update = { kernel: gramKernel, args: [a.address, b.address, 4 * K, ...sizeWords] };
    if (!routed) return [update];
    const indices = dense(inputs, cross ? 3 : 2);
    return [{ kernel: expertSortKernel, args: [indices.address, slots, experts, list] }, update];
  },
};
