// crossEntropy and compareLogits.

import type { Node } from '../../../graph/graph.ts';
import { alignedBytes } from '../allocator.ts';
import { dense, type OpEncoder, rowsAndColumns } from '../encoder.ts';
import { compareLogitsKernel, crossEntropyCombineKernel, crossEntropyPartialKernel } from '../kernel-ids.ts';
import { sourceWords } from '../matmul-source.ts';

/** Vocabulary entries of one task. Fixed, so that sums do not depend on the number of threads. */
const chunk = 2048;
/** Scratch of one thread: the layout in kernels/engine/losses.ts. */
const threadBytes = 4 * (256 * 64 + 64 * 256 + 64 * 64);

function partialBytes(node: Node): number {
  const [hidden, weight] = node.inputs;
  return alignedBytes(12 * hidden.type.shape[0] * Math.ceil(weight.type.shape[0] / chunk));
}

export const crossEntropyEncoder: OpEncoder = {
  scratchBytes: (node, threads) => partialBytes(node) + threads * threadBytes,
  encode({ node, inputs, outputs, scratch }) {
    const [hidden, weight, targets, y] = [dense(inputs, 0), inputs[1], dense(inputs, 2), dense(outputs, 0)];
    const [N, C] = hidden.shape;
    const V = weight.shape[0];
    const chunks = Math.ceil(V / chunk);
    const address = weight.dtype === 'packed' ? 0 : weight.address;
    const tiles = [scratch + partialBytes(node), threadBytes];
    const words = [hidden.address, address, targets.address, scratch, N, C, V, chunk, chunks, ...tiles];
    return [
      { kernel: crossEntropyPartialKernel, args: address ? words : [...words, ...sourceWords(weight, true)] },
      { kernel: crossEntropyCombineKernel, args: [scratch, targets.address, y.address, N, chunks, V] },
    ];
  },
};

export const compareLogitsEncoder: OpEncoder = {
  encode({ inputs, outputs }) {
    const operands = [dense(inputs, 0), dense(inputs, 1), dense(inputs, 2), dense(outputs, 0)];
    const addresses = operands.map((operand) => operand.address);
    return [{ kernel: compareLogitsKernel, args: [...addresses, ...rowsAndColumns(operands[0].shape)] }];
  },
};
