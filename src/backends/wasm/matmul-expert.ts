// Encoder of the op `expertMatmul`: sort the rows by expert, then one product an expert (kernels/engine/matmul-expert.ts).

import type { Node } from '../../graph/graph.ts';
import { elementCount } from '../../tensor/shape.ts';
import { alignedBytes } from './allocator.ts';
import type { OpEncoder, Operand } from './encoder.ts';
import { expertMatmulKernel, expertSortKernel } from './kernel-ids.ts';
import { f32ThreadBytes, isDense } from './matmul.ts';
import { sourceWords, valuesAddress } from './matmul-source.ts';

function sizes(node: Node) {
  const [x, weight, indices] = node.inputs.map((value) => value.type.shape);
  const [experts, N, K] = weight as [number, number, number];
  const slots = elementCount(indices!);
  return { experts, N, K, slots, slotsPerRow: x!.length === 2 ? indices!.at(-1)! : 1 };
}

export const expertMatmulEncoder: OpEncoder = {
  scratchBytes(node, threads) {
    const { experts, slots } = sizes(node);
    return threads * f32ThreadBytes + alignedBytes(4 * (experts + 1 + slots));
  },

  encode({ node, inputs, outputs, scratch, threads }) {
    const { experts, N, K, slots, slotsPerRow } = sizes(node);
    const [x, weight, indices] = inputs as [Operand, Operand, Operand];
    const list = scratch + threads * f32ThreadBytes;
    const words = [
      ...[experts, slots, N, K],
      ...[valuesAddress(x), 4 * K, 0, slotsPerRow],
      ...[valuesAddress(weight), 4 * K, isDense(weight) ? 4 * N * K : N],
      ...[valuesAddress(outputs[0]!), 4 * N, 0],
      ...[scratch, list],
    ];
    return [
      { kernel: expertSortKernel, args: [valuesAddress(indices), slots, experts, list] },
      { kernel: expertMatmulKernel, args: [...words, ...sourceWords(weight, true)] },
    ];
  },
};
