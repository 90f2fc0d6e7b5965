// Gradients that contain matrix products: attention, crossEntropy, expertMatmul; and of compareLogits.

import type { Node } from '../../../graph/graph.ts';
import type { AttentionAttributes } from '../../../graph/ops/attention.ts';
import { elementCount } from '../../../tensor/shape.ts';
import { alignedBytes } from '../allocator.ts';
import { dense, f32, type OpEncoder, rowsAndColumns } from '../encoder.ts';
import {
  addHeadsKernel,
  attentionBackwardKernel,
  compareLogitsBackwardKernel,
  crossEntropyBackwardKernel,
  expertInputGradientKernel,
  expertSortKernel,
  expertWeightGradientKernel,
} from '../kernel-ids.ts';
import { f32ThreadBytes, isDense } from '../matmul.ts';
import { sourceWords, valuesAddress } from '../matmul-source.ts';

const roundUp = (n: number, unit: number) => unit * Math.ceil(n / unit);

/** Tasks of a batch that keep many cores busy; below, every head is a task of its own. */
const enoughTasks = 16;

/** How attentionBackward is cut up: nothing here may depend on the number of threads. */
function attentionParts(node: Node) {
  const [B, , H, D] = node.inputs[0].type.shape;
  const [, S, G] = node.inputs[1].type.shape;
  const lanes = B * G < enoughTasks ? 1 : H / G;
  const shared = lanes < H / G;
  // Chunks of rows of probabilities stay within a second-level cache for the usual windows.
  const rows = S <= 2048 ? 60 : 24;
  const [D8, S8] = [roundUp(D, 8), roundUp(S, 8)];
  const floats = 5 * rows * D8 + 2 * rows * D + 64 * (D + D8) + 6 * 64 + 64 + 2 * rows * S8;
  const partialBytes = shared ? alignedBytes(4 * B * S * H * D) : 0;
  return { lanes, shared, rows, threadBytes: alignedBytes(4 * floats), partialBytes };
}

export const attentionBackwardEncoder: OpEncoder = {
  scratchBytes(node, threads) {
    const { threadBytes, partialBytes } = attentionParts(node);
    return threads * threadBytes + 2 * partialBytes;
  },
  encode({ node, inputs, outputs, scratch }) {
    const { scale, causal, window } = node.attributes as unknown as AttentionAttributes;
    const { lanes, shared, rows, threadBytes, partialBytes } = attentionParts(node);
    const [q, k] = [dense(inputs, 0), dense(inputs, 1)];
    const start = inputs.length > 4 ? dense(inputs, 4).address : 0;
    const [B, T, H, D] = q.shape;
    const [, S, G] = k.shape;
    const [dq, dk, dv] = outputs.map((_, i) => dense(outputs, i).address);
    const targets = shared ? [scratch, scratch + partialBytes] : [dk, dv];
    const words = [
      ...[q.address, k.address, dense(inputs, 2).address, dense(inputs, 3).address, start, dq, ...targets],
      ...[B, T, H, D, S, G, f32(scale), causal ? 1 : 0, window],
      ...[scratch + 2 * partialBytes, threadBytes, rows, lanes],
    ];
    const sum = (from: number, out: number) => ({
      kernel: addHeadsKernel,
      args: [from, out, B * S * G, H / G, D],
    });
    return [
      { kernel: attentionBackwardKernel, args: words },
      ...(shared ? [sum(targets[0], dk), sum(targets[1], dv)] : []),
    ];
  },
};

/** Scratch of crossEntropyBackward, as offsets: kernels/engine/losses-backward.ts. */
function lossLayout(node: Node) {
  const [N, C] = node.inputs[0].type.shape;
  const weight = node.inputs[1].type;
  const V = weight.shape[0];
  const plain = weight.dtype !== 'packed' || (weight.format.kind === 'float' && weight.format.name === 'f32');
  const g = alignedBytes(4 * N);
  const decoded = g + alignedBytes(4 * Math.min(N, 512) * Math.min(V, 1024));
  const own = decoded + (plain ? 0 : alignedBytes(4 * Math.min(V, 1024) * C));
  return { N, V, C, plain, g, decoded, own, threadBytes: alignedBytes(f32ThreadBytes + 3 * 128 + 4 * C) };
}

export const crossEntropyBackwardEncoder: OpEncoder = {
  scratchBytes(node, threads) {
    const { own, threadBytes } = lossLayout(node);
    return own + threads * threadBytes;
  },
  encode({ node, inputs, outputs, scratch }) {
    const { N, V, C, plain, g, decoded, own, threadBytes } = lossLayout(node);
    const [hidden, weight, targets] = [dense(inputs, 0), inputs[1], dense(inputs, 2)];
    const dweight = outputs.length > 1 ? dense(outputs, 1).address : 0;
    const words = [
      ...[hidden.address, plain ? valuesAddress(weight) : 0, targets.address],
      ...[dense(inputs, 3).address, dense(inputs, 4).address, dense(outputs, 0).address, dweight, N, V, C],
      ...[scratch, scratch + g, scratch + decoded, scratch + own, threadBytes, 0],
    ];
    return [{ kernel: crossEntropyBackwardKernel, args: plain ? words : [...words, ...sourceWords(weight, true)] }];
  },
};

export const compareLogitsBackwardEncoder: OpEncoder = {
  encode({ inputs, outputs }) {
    const operands = [...inputs.map((_, i) => dense(inputs, i)), ...outputs.map((_, i) => dense(outputs, i))];
    const addresses = operands.map((operand) => operand.address);
    return [{ kernel: compareLogitsBackwardKernel, args: [...addresses, ...rowsAndColumns(operands[0].shape)] }];
  },
};

/** Scratch of expertMatmulBackward, as offsets: the list, dx of each slot, a decoded expert, the threads' own. */
function expertLayout(node: Node) {
  const [x, weight, indices] = node.inputs.map((v) => v.type);
  const [experts, M, K] = weight.shape;
  const slots = elementCount(indices.shape);
  const slotsPerRow = x.shape.length === 2 ? indices.shape[1] : 1;
  const plain = weight.dtype !== 'packed' || (weight.format.kind === 'float' && weight.format.name === 'f32');
  const eachSlot = alignedBytes(4 * (experts + 1 + slots));
  const decoded = eachSlot + (slotsPerRow > 1 ? alignedBytes(4 * slots * K) : 0);
  const own = decoded + (plain ? 0 : alignedBytes(4 * M * K));
  const threadBytes = f32ThreadBytes + 128;
  return { experts, M, K, slots, slotsPerRow, plain, eachSlot, decoded, own, threadBytes };
}

export const expertMatmulBackwardEncoder: OpEncoder = {
  scratchBytes(node, threads) {
    const { own, threadBytes } = expertLayout(node);
    return own + threads * threadBytes;
  },
  encode({ node, inputs, outputs, scratch }) {
    const { experts, M, K, slots, slotsPerRow, eachSlot, decoded, own, threadBytes } = expertLayout(node);
    const [x, weight, indices, dy, dx] = [
      dense(inputs, 0),
      inputs[1],
      dense(inputs, 2),
      dense(inputs, 3),
      dense(outputs, 0),
    ];
    const plain = isDense(weight);
    const toSlots = slotsPerRow > 1 ? scratch + eachSlot : dx.address;
    const words = [
      ...[experts, M, K, scratch, dy.address, plain ? valuesAddress(weight) : 0, toSlots, scratch + decoded],
      ...[scratch + own, threadBytes, 0, 0, 0, 0, 0, 0],
    ];
    const commands = [
      { kernel: expertSortKernel, args: [indices.address, slots, experts, scratch] },
      { kernel: expertInputGradientKernel, args: plain ? words : [...words, ...sourceWords(weight, true)] },
    ];
    if (slotsPerRow > 1)
      commands.push({ kernel: addHeadsKernel, args: [toSlots, dx.address, slots / slotsPerRow, slotsPerRow, K] });
    if (outputs.length > 1) {
      const target = dense(outputs, 1).address;
      const weightWords = [
        experts,
        M,
        K,
        scratch,
        dy.address,
        x.address,
        slotsPerRow,
        target,
        scratch + own,
        threadBytes,
      ];
      commands.push({ kernel: expertWeightGradientKernel, args: weightWords });
    }
    return commands;
  },
};
