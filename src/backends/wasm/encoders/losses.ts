// crossEntropy and compareLogits.

import type { Node } from '../../../graph/graph.ts';
import { alignedBytes } from '../allocator.ts';
import { dense, type OpEncoder, rowsAndColumns } from '../encoder.ts';
import { compareLogitsKernel, crossEntropyCombineKernel, crossEntropyPartialKernel } from '../kernel-ids.ts';
import { f32ThreadBytes } from '../matmul.ts';
import { sourceWords, valuesAddress } from '../matmul-source.ts';

/** Vocabulary entries of one task. Fixed, so that sums do not depend on the number of threads. */
const chunk = 2048;
/** Bytes of a row of the tile of logits, and of a thread's scratch: kernels/engine/losses.ts. */
const lineBytes = 1024;
const threadBytes = f32ThreadBytes + 192 * lineBytes;

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
    const own = scratch + partialBytes(node);
    const product = [1, N, V, C, hidden.address, 4 * C, 0, 0, valuesAddress(weight), 4 * C, 0, 0, lineBytes, 0, own, 0];
    const words = [targets.address, scratch, chunk, chunks, own, threadBytes, 0, 0];
    return [
      { kernel: crossEntropyPartialKernel, args: [...words, ...product, ...sourceWords(weight, true)] },
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
