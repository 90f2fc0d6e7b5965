// Products of two packed operands as commands: packInt turns a into panels, matmulInt multiplies them with b.
//
// Several products may read one a (q, k and v; gate and up). Its panels are then made once, by an op of this backend's own
// that share-panels.ts puts in front of them, and the products get them as a third input.

import type { Node, OpDefinition } from '../../graph/graph.ts';
import { i32 } from '../../graph/value-type.ts';
import type { IntegerPlan, IntegerSide } from '../integer-plan.ts';
import type { Product } from '../product.ts';
import { alignedBytes } from './allocator.ts';
import { type Command, dense, type EncodeContext, type OpEncoder, type PackedOperand } from './encoder.ts';
import { matmulIntKernel, packIntKernel } from './kernel-ids.ts';
import { sourceWords, valuesAddress } from './matmul-source.ts';

/** Bytes of a line of integers, and of the panels of a: places of starts and scales in them, and their size. */
function panelLayout({ M, K }: Pick<Product, 'M' | 'K'>, { block, fold }: Pick<IntegerPlan, 'block' | 'fold'>) {
  const blocks = Math.ceil(K / block);
  const runs = fold > 1 ? blocks / fold : 0;
  const line = blocks * 4 * Math.ceil(block / 4);
  const panels = Math.ceil(M / 6);
  const starts = alignedBytes(panels * 6 * line);
  const scales = starts + alignedBytes(panels * (blocks + runs) * 32);
  return { blocks, runs, line, starts, scales, bytes: scales + alignedBytes(panels * (blocks + 1) * 32) };
}

/** What a thread of matmulInt needs: columns that it decodes at a time, and bytes. */
function threadLayout(p: Product, plan: IntegerPlan) {
  const { blocks, runs, line } = panelLayout(p, plan);
  // A quarter of a common second-level cache for the decoded columns, at most 256, in panels of 8 or 12.
  const unit = plan.laneLimit > 0 ? 24 : 8;
  const most = unit * Math.max(Math.floor(2 ** 19 / line / unit), 1);
  const columns = Math.min(most, unit * Math.floor(256 / unit), unit * Math.ceil(p.N / unit));
  const scaleBytes = 32 * (blocks + 1 + Math.ceil((runs || blocks) / 8));
  return { columns, ownBytes: alignedBytes(640 + 12 * line + (columns / 8) * scaleBytes + columns * line) };
}

/** The part of a plan that panels of a depend on. */
export interface PanelPlan extends Pick<IntegerPlan, 'block' | 'offset' | 'fold' | 'laneLimit' | 'a'> {
  /** Rows and columns of a. */
  readonly M: number;
  readonly K: number;
}

export const panelPlan = ({ M, K }: Product, { block, offset, fold, laneLimit, a }: IntegerPlan): PanelPlan => ({
  ...{ M, K, block, offset, fold, laneLimit, a },
});

const side = ({ shift, perRow }: IntegerSide, row: number) => [shift, perRow ? 1 : 0, row];

/** Panels at `to` of M rows of a from row `row`; `own`: scratch, `ownBytes` a thread. */
function packCommand(
  plan: PanelPlan,
  a: PackedOperand,
  row: number,
  to: number,
  own: number,
  ownBytes: number,
): Command {
  const { M, K, block, offset, fold, laneLimit } = plan;
  const { starts, scales } = panelLayout(plan, plan);
  const words = [M, 0, K, block, to, to + starts, to + scales, own, ownBytes, offset, fold];
  const args = [...words, ...side(plan.a, row), 0, 0, 0, 0, 0, laneLimit, ...sourceWords(a, true)];
  return { kernel: packIntKernel, args };
}

/** a [M, K] packed → its panels, as words. */
export const integerPanelsOp: OpDefinition<PanelPlan> = {
  name: 'integerPanels',
  noGradient: 'it is made when a graph is compiled',
  infer: (_, plan) => [i32([panelLayout(plan, plan).bytes / 4])],
};

export const integerPanelsEncoder: OpEncoder = {
  scratchBytes(node, threads) {
    const plan = node.attributes as unknown as PanelPlan;
    return threads * alignedBytes(6 * panelLayout(plan, plan).line);
  },
  encode({ node, inputs, outputs, scratch }) {
    const plan = node.attributes as unknown as PanelPlan;
    const ownBytes = alignedBytes(6 * panelLayout(plan, plan).line);
    return [packCommand(plan, inputs[0] as PackedOperand, 0, dense(outputs, 0).address, scratch, ownBytes)];
  },
};

/** Scratch of one product: the panels of a, where they are not an input, then the threads' own. */
export function integerScratchBytes(node: Node, p: Product, plan: IntegerPlan, threads: number): number {
  const panels = node.inputs.length > 2 ? 0 : panelLayout(p, plan).bytes;
  return panels + threads * threadLayout(p, plan).ownBytes;
}

export function encodeInteger(
  context: EncodeContext,
  p: Product,
  plan: IntegerPlan,
  a: PackedOperand,
  b: PackedOperand,
): Command[] {
  const { inputs, outputs, scratch } = context;
  const { starts, scales, bytes } = panelLayout(p, plan);
  const { columns, ownBytes } = threadLayout(p, plan);
  const shared = inputs.length > 2;
  const panels = shared ? dense(inputs, 2).address : scratch;
  const own = shared ? scratch : scratch + bytes;
  const places = [panels, panels + starts, panels + scales, own, ownBytes, plan.offset, plan.fold];
  const commands: Command[] = [];
  for (let i = 0; i < p.batch; i++) {
    if (!shared) commands.push(packCommand(panelPlan(p, plan), a, i * p.M, panels, own, ownBytes));
    const c = valuesAddress(outputs[0]!) + 4 * i * p.M * p.N;
    const sideB = side(plan.b, p.batchedB ? i * p.N : 0);
    const out = [c, 4 * p.N, columns, plan.exact ? 1 : 0, a.tensorScale, plan.laneLimit];
    commands.push({
      kernel: matmulIntKernel,
      args: [p.M, p.N, p.K, plan.block, ...places, ...sideB, ...out, ...sourceWords(b, true)],
    });
  }
  return commands;
}
