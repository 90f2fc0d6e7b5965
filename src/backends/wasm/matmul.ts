// Encoder of the op `matmul`: which kernels multiply which operands.
//
//   both packed, integers on both sides   packInt (a), matmulInt            matmul-integer.ts; ../integer-plan.ts says when
//   a packed otherwise                    decodeRows (a to f32 scratch), then as dense a
//   dense a, b dense or packed            matmulF32, which decodes b on the way
//
// Weights stay in memory as they were uploaded: codes and scales, nothing beside them. Every product decodes a column
// of b once, into scratch of the thread.

import type { MatmulAttributes } from '../../graph/ops/matmul.ts';
import { elementCount } from '../../tensor/shape.ts';
import { integerProductPlan, productOf } from '../product.ts';
import { alignedBytes } from './allocator.ts';
import type { Command, OpEncoder, Operand, PackedOperand } from './encoder.ts';
import { decodeRowsKernel, matmulF32Kernel } from './kernel-ids.ts';
import { encodeInteger, integerScratchBytes } from './matmul-integer.ts';
import { sourceWords, valuesAddress } from './matmul-source.ts';

/** Scratch of one thread in matmulF32: threadScratch of kernels/engine/matmul-f32.ts. */
export const f32ThreadBytes = (6 + 8 + 256) * 512 * 4 + 256;

/** The command that writes all values of a packed operand as f32. */
export function decodeCommand(source: PackedOperand, destination: number): Command {
  return {
    kernel: decodeRowsKernel,
    args: [source.rows, source.cols, destination, 0, ...sourceWords(source, true)],
  };
}

/** Stored as plain f32. */
export const isDense = (operand: Operand) =>
  operand.dtype !== 'packed' || (operand.format.kind === 'float' && operand.format.name === 'f32');

export const matmulEncoder: OpEncoder = {
  scratchBytes(node, threads) {
    const p = productOf(node);
    const plan = integerProductPlan(node, p);
    if (plan) return integerScratchBytes(node, p, plan, threads);
    const a = node.inputs[0]!.type;
    return threads * f32ThreadBytes + (a.dtype === 'packed' ? alignedBytes(4 * elementCount(a.shape)) : 0);
  },

  encode(context) {
    const { node, inputs, outputs, scratch, threads } = context;
    const { transposeA, transposeB } = node.attributes as unknown as MatmulAttributes;
    const p = productOf(node);
    const [a, b] = inputs as [Operand, Operand];
    const plan = integerProductPlan(node, p);
    if (plan && a.dtype === 'packed' && b.dtype === 'packed') return encodeInteger(context, p, plan, a, b);
    const commands: Command[] = [];
    let addressA = valuesAddress(a);
    if (a.dtype === 'packed') {
      addressA = scratch + alignedBytes(threads * f32ThreadBytes);
      commands.push(decodeCommand(a, addressA));
    }
    const stepB = !p.batchedB ? 0 : isDense(b) ? 4 * p.N * p.K : p.N;
    const words = [
      ...[p.batch, p.M, p.N, p.K],
      ...[addressA, 4 * (transposeA ? p.M : p.K), transposeA ? 1 : 0, 4 * p.M * p.K],
      ...[valuesAddress(b), 4 * (transposeB ? p.K : p.N), stepB],
      ...[valuesAddress(outputs[0]!), 4 * p.N, 4 * p.M * p.N],
      ...[scratch, 0],
    ];
    commands.push({ kernel: matmulF32Kernel, args: [...words, ...sourceWords(b, transposeB)] });
    return commands;
  },
};
