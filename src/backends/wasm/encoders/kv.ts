// Quantized key/value caches: cacheWrite, ringWrite, packChannels and kvAttention.

import { partBytes } from '../../../formats/empty.ts';
import { elementBits } from '../../../formats/table.ts';
import type { KvAttentionAttributes } from '../../../graph/ops/kv-attention.ts';
import { channelSpec, type PackChannelsAttributes, type RingAttributes } from '../../../graph/ops/kv-write.ts';
import { elementCount } from '../../../tensor/shape.ts';
import { alignedBytes } from '../allocator.ts';
import { type Command, dense, f32, type OpEncoder, type Operand, type PackedOperand } from '../encoder.ts';
import { cacheWriteKernel, kvAttentionKernel, packChannelsKernel, ringWriteKernel } from '../kernel-ids.ts';
import { sourceWords } from '../matmul-source.ts';
import { formatWords } from './quantize.ts';

function packed(operand: Operand): PackedOperand {
  if (operand.dtype === 'packed') return operand;
  throw new Error('encoder: a packed cache was planned as dense');
}

export const cacheWriteEncoder: OpEncoder = {
  encode({ inputs }) {
    const [cache, x, start] = [inputs[0], inputs[1], dense(inputs, 2)];
    const [B, S, G, D] = cache.shape;
    const copy = (to: number, from: number, rowBytes: number): Command => ({
      kernel: cacheWriteKernel,
      args: [to, from, start.address, B, S, x.shape[1], rowBytes],
    });
    if (cache.dtype !== 'packed') return [copy(cache.address, dense(inputs, 1).address, 4 * G * D)];
    const from = packed(x);
    const [codes, scales, zeroPoints] = partBytes(cache.format, G, D);
    return [
      copy(cache.codes, from.codes, codes),
      ...(scales > 0 ? [copy(cache.scales, from.scales, scales)] : []),
      ...(zeroPoints > 0 ? [copy(cache.zeroPoints, from.zeroPoints, zeroPoints)] : []),
    ];
  },
};

export const ringWriteEncoder: OpEncoder = {
  encode({ node, inputs }) {
    const { sinks } = node.attributes as unknown as RingAttributes;
    const [ring, x, start] = [dense(inputs, 0), dense(inputs, 1), dense(inputs, 2)];
    const [B, W, ...row] = ring.shape;
    const args = [ring.address, x.address, start.address, B, W, x.shape[1], 4 * elementCount(row), sinks];
    return [{ kernel: ringWriteKernel, args }];
  },
};

/** Scratch of one thread: the layout in kernels/engine/pack-channels.ts. */
const packThreadBytes = (group: number) => alignedBytes(5 * group + 64);

export const packChannelsEncoder: OpEncoder = {
  scratchBytes: (node, threads) =>
    threads * packThreadBytes(channelSpec('packChannels', node.inputs[0].type).granularity.size),
  encode({ node, inputs, scratch }) {
    const { tokens, sinks } = node.attributes as unknown as PackChannelsAttributes;
    const [cache, ring, start] = [packed(inputs[0]), dense(inputs, 1), dense(inputs, 2)];
    const spec = channelSpec('packChannels', node.inputs[0].type);
    const { size } = spec.granularity;
    const [B, W, G, D] = ring.shape;
    const { rows, cols, codes, scales, zeroPoints } = cache;
    const args = [
      ...[ring.address, rows, cols, codes, partBytes(spec, 1, cols)[0], scales, zeroPoints, 0, 0, 0],
      ...[packThreadBytes(size), ...formatWords(spec, rows, cols, 0, 0)],
      ...[start.address, B, W, G * D, tokens, sinks, size, elementBits(spec.element), scratch],
    ];
    return [{ kernel: packChannelsKernel, args }];
  },
};

/** Scratch of one thread: the layout in kernels/engine/attention-kv.ts. */
function kvThreadBytes(D: number): number {
  const padded = 8 * Math.ceil(D / 8);
  return alignedBytes(4 * ((60 + 60 + 64 + 64) * padded + (60 + 64) * D + 2 * 60 * 64 + 6 * 64 + 120));
}

const ownWords = 22;

export const kvAttentionEncoder: OpEncoder = {
  scratchBytes: (node, threads) => threads * kvThreadBytes(node.inputs[0].type.shape[3]),
  encode({ node, inputs, outputs, scratch }) {
    const a = node.attributes as unknown as KvAttentionAttributes;
    const [q, keys, values, y] = [dense(inputs, 0), packed(inputs[1]), packed(inputs[2]), dense(outputs, 0)];
    const [recentKeys, recentValues] = [dense(inputs, 3), dense(inputs, 4)];
    const start = inputs.length > 5 ? dense(inputs, 5).address : 0;
    const [B, T, H, D] = q.shape;
    const [, S, G] = values.shape;
    const keyWords = sourceWords(keys, true);
    const args = [
      ...[q.address, start, y.address, recentKeys.address, recentValues.address],
      ...[B, T, H, D, S, G, recentKeys.shape[1], f32(a.scale), a.window, a.keys === 'channel' ? 1 : 0],
      ...[a.block, a.residual, a.sinks, scratch, kvThreadBytes(D)],
      ...[4 * ownWords, 4 * (ownWords + keyWords.length), ...keyWords, ...sourceWords(values, true)],
    ];
    return [{ kernel: kvAttentionKernel, args }];
  },
};
