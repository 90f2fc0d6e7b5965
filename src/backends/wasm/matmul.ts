// Encoder of the op `matmul`: which kernels multiply which operands.
//
//   both packed, integers on both sides   packInt (a), matmulInt            ../integer-plan.ts says when
//   a packed otherwise                    decodeRows (a to f32 scratch), then as dense a
//   dense a, b dense or packed            matmulF32, which decodes b on the way
//
// Weights stay in memory as they were uploaded: codes and scales, nothing beside them. Every product decodes a column
// of b once, into scratch of the thread.

import type { Node } from '../../graph/graph.ts';
import { type MatmulAttributes, matmulDimensions } from '../../graph/ops/matmul.ts';
import { elementCount } from '../../tensor/shape.ts';
import { type IntegerPlan, type IntegerSide, integerPlan } from '../integer-plan.ts';
import { alignedBytes } from './allocator.ts';
import type { Command, EncodeContext, OpEncoder, Operand, PackedOperand } from './encoder.ts';
import { decodeRowsKernel, matmulF32Kernel, matmulIntKernel, packIntKernel } from './kernel-ids.ts';
import { sourceWords, valuesAddress } from './matmul-source.ts';

/** Scratch of one thread in matmulF32: threadScratch of kernels/engine/matmul-f32.ts. */
export const f32ThreadBytes = (6 + 8 + 256) * 512 * 4 + 256;

interface Product {
  /** Rows of a for one product. */
  M: number;
  N: number;
  K: number;
  /** Products, one after the other. */
  batch: number;
  /** b has a matrix for each of them. */
  batchedB: boolean;
}

/** One b for all batches is one product with more rows, unless a is stored [K, M]. */
function productOf(node: Node): Product {
  const attributes = node.attributes as unknown as MatmulAttributes;
  const [a, b] = node.inputs;
  const { batch, batchedB, M, N, K } = matmulDimensions(a!.type.shape, b!.type.shape, attributes);
  const count = elementCount(batch);
  if (batchedB || attributes.transposeA) return { M, N, K, batch: count, batchedB };
  return { M: M * count, N, K, batch: 1, batchedB };
}

function planOf(node: Node, p: Product): IntegerPlan | undefined {
  const [a, b] = node.inputs.map((value) => value.type);
  if (a!.dtype !== 'packed' || b!.dtype !== 'packed') return undefined;
  return integerPlan(a!.format, p.M * p.batch, b!.format, p.batchedB ? p.N * p.batch : p.N, p.K);
}

/** Scratch of the integer kernels, as offsets. */
function integerLayout(p: Product, plan: IntegerPlan, threads: number) {
  const blocks = Math.ceil(p.K / plan.block);
  const runs = plan.fold > 1 ? blocks / plan.fold : 0;
  const line = blocks * 4 * Math.ceil(plan.block / 4);
  const panels = Math.ceil(p.M / 6);
  // A quarter of a common second-level cache for the decoded columns, at most 256, in panels of 8 or 12.
  const unit = plan.laneLimit > 0 ? 24 : 8;
  const most = unit * Math.max(Math.floor(2 ** 19 / line / unit), 1);
  const columns = Math.min(most, unit * Math.floor(256 / unit), unit * Math.ceil(p.N / unit));
  const scaleBytes = 32 * (blocks + 1 + Math.ceil((runs || blocks) / 8));
  const starts = alignedBytes(panels * 6 * line);
  const scales = starts + alignedBytes(panels * (blocks + runs) * 32);
  const own = scales + alignedBytes(panels * (blocks + 1) * 32);
  const ownBytes = alignedBytes(640 + 12 * line + (columns / 8) * scaleBytes + columns * line);
  return { columns, starts, scales, own, ownBytes, total: own + threads * ownBytes };
}

function encodeInteger(
  context: EncodeContext,
  p: Product,
  plan: IntegerPlan,
  a: PackedOperand,
  b: PackedOperand,
): Command[] {
  const { columns, starts, scales, own, ownBytes } = integerLayout(p, plan, context.threads);
  const at = context.scratch;
  const scratch = [at, at + starts, at + scales, at + own, ownBytes, plan.offset, plan.fold];
  const side = ({ shift, perRow }: IntegerSide, row: number) => [shift, perRow ? 1 : 0, row];
  const commands: Command[] = [];
  for (let i = 0; i < p.batch; i++) {
    const words = [p.M, 0, p.K, plan.block, ...scratch, ...side(plan.a, i * p.M), 0, 0, 0, 0, 0, plan.laneLimit];
    commands.push({ kernel: packIntKernel, args: [...words, ...sourceWords(a, true)] });
    const c = valuesAddress(context.outputs[0]!) + 4 * i * p.M * p.N;
    const sideB = side(plan.b, p.batchedB ? i * p.N : 0);
    const out = [c, 4 * p.N, columns, plan.exact ? 1 : 0, a.tensorScale, plan.laneLimit];
    commands.push({
      kernel: matmulIntKernel,
      args: [p.M, p.N, p.K, plan.block, ...scratch, ...sideB, ...out, ...sourceWords(b, true)],
    });
  }
  return commands;
}

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
    const plan = planOf(node, p);
    if (plan) return integerLayout(p, plan, threads).total;
    const a = node.inputs[0]!.type;
    return threads * f32ThreadBytes + (a.dtype === 'packed' ? alignedBytes(4 * elementCount(a.shape)) : 0);
  },

  encode(context) {
    const { node, inputs, outputs, scratch, threads } = context;
    const { transposeA, transposeB } = node.attributes as unknown as MatmulAttributes;
    const p = productOf(node);
    const [a, b] = inputs as [Operand, Operand];
    const plan = planOf(node, p);
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
