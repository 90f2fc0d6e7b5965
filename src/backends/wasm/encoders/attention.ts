// RoPE and attention.

import type { AttentionAttributes } from '../../../graph/ops/attention.ts';
import type { RopeAttributes } from '../../../graph/ops/rope.ts';
import { alignedBytes } from '../allocator.ts';
import { dense, f32, type OpEncoder } from '../encoder.ts';
import { attentionKernel, ropeKernel } from '../kernel-ids.ts';
import { f64Words } from './words.ts';

const ropeThreadBytes = (half: number) => 8 * half + 64;

export const ropeEncoder: OpEncoder = {
  scratchBytes: (node, threads) => threads * ropeThreadBytes(node.inputs[2].type.shape[0]),
  encode({ node, inputs, outputs, scratch }) {
    const { style, magnitude } = node.attributes as unknown as RopeAttributes;
    const [x, positions, frequencies, y] = [dense(inputs, 0), dense(inputs, 1), dense(inputs, 2), dense(outputs, 0)];
    const [B, T, H, D] = x.shape;
    const args = [
      ...[x.address, positions.address, frequencies.address, y.address, B * T, H, D, frequencies.shape[0]],
      ...[style === 'half' ? 0 : 1, ...f64Words(magnitude), scratch, B],
    ];
    return [{ kernel: ropeKernel, args }];
  },
};

/** Scratch of one thread: the layout in kernels/engine/attention.ts. */
function attentionThreadBytes(D: number): number {
  const padded = 8 * Math.ceil(D / 8);
  return alignedBytes(4 * ((60 + 60 + 64) * padded + (60 + 64) * D + 60 * 64 + 6 * 64 + 120));
}

export const attentionEncoder: OpEncoder = {
  scratchBytes: (node, threads) => threads * attentionThreadBytes(node.inputs[0].type.shape[3]),
  encode({ node, inputs, outputs, scratch }) {
    const { scale, causal, window } = node.attributes as unknown as AttentionAttributes;
    const [q, k, v, y] = [dense(inputs, 0), dense(inputs, 1), dense(inputs, 2), dense(outputs, 0)];
    const start = inputs.length > 3 ? dense(inputs, 3).address : 0;
    const [B, T, H, D] = q.shape;
    const [, S, G] = k.shape;
    const args = [
      ...[q.address, k.address, v.address, start, y.address, B, T, H, D, S, G],
      ...[f32(scale), causal ? 1 : 0, window, scratch, attentionThreadBytes(D)],
    ];
    return [{ kernel: attentionKernel, args }];
  },
};
