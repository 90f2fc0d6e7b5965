// Finds chains of ops that end in quantize and that one kernel runs, and puts one op in their place (fused-quantize-op.ts).
//
//   [dequantize] → [transpose [1, 0]] → [hadamard, signs before or after it] → quantize
//
// The values in between are never written to memory, so a chain ends where another node or the caller reads one. A source
// is read where quantize stood: where a state was updated in the meantime nothing is fused.

import type { Graph, Node, Value } from '../../graph/graph.ts';
import { liveNodes } from '../../graph/live-nodes.ts';
import type { HadamardAttributes } from '../../graph/ops/hadamard.ts';
import type { TransposeAttributes } from '../../graph/ops/layout.ts';
import type { QuantizeAttributes } from '../../graph/ops/quantize.ts';
import { sameShape } from '../../tensor/shape.ts';
import type { GpuTraits } from './device.ts';
import { type FusedQuantizeAttributes, fusedQuantizeOp } from './fused-quantize-op.ts';
import { soleProducers, updatesBetween, withFused } from './fusing.ts';
import { rowsAndColumns } from './kernel.ts';
import { canFuse, fusedThreads } from './kernels/fused-shape.ts';

/** A chain from some source on; longer ones have more nodes. */
interface Chain extends Pick<FusedQuantizeAttributes, 'transposed' | 'blockSize' | 'signs' | 'threads'> {
  readonly source: Value;
  readonly signsFrom?: Value;
  readonly nodes: readonly Node[];
}

/** The graph with every chain that a kernel on this device runs as one node; the graph itself where there is none. */
export function fuseQuantize(graph: Graph, gpu: GpuTraits, threads = fusedThreads(gpu)): Graph {
  const nodes = liveNodes(graph);
  const place = new Map(nodes.map((node, i) => [node, i]));
  const producerOf = soleProducers(graph, nodes);
  const fused = new Map<Node, Node>();
  const gone = new Set<Node>();
  for (const [at, node] of nodes.entries()) {
    const { format, fixed } = node.attributes as unknown as QuantizeAttributes;
    if (node.op.name !== 'quantize' || fixed || format.kind !== 'quant') continue;
    const [rows, cols] = rowsAndColumns(node.outputs[0].type.shape);
    const chain = chainsOf(node.inputs[0], threads, producerOf).findLast(
      (c) =>
        canFuse(format, rows, cols, c) && !updatesBetween(nodes, Math.min(...c.nodes.map((n) => place.get(n)!)), at),
    );
    if (!chain) continue;
    for (const member of chain.nodes) gone.add(member);
    fused.set(node, fusedNode(node, chain));
  }
  return withFused(graph, nodes, fused, gone);
}

function fusedNode(node: Node, { source, signsFrom, transposed, blockSize, signs, threads }: Chain): Node {
  const attributes = { ...node.attributes, transposed, blockSize, signs, threads };
  const inputs = [source, ...(signsFrom ? [signsFrom] : []), ...node.inputs.slice(1)];
  return { ...node, op: fusedQuantizeOp, inputs, attributes } as unknown as Node;
}

/** Chains that lead to a value, each longer than the one before. */
function chainsOf(value: Value, threads: number, producerOf: (value: Value, op: string) => Node | undefined): Chain[] {
  const chains: Chain[] = [];
  let last: Chain = { source: value, transposed: false, blockSize: 1, signs: 'none', threads, nodes: [] };
  const add = (more: Partial<Chain> & Pick<Chain, 'source'>, ...nodes: readonly Node[]) => {
    last = { ...last, ...more, nodes: [...last.nodes, ...nodes] };
    chains.push(last);
  };
  const signed = signsAfter(value, producerOf);
  const turn = producerOf(signed?.source ?? value, 'hadamard');
  if (turn) {
    const { blockSize } = turn.attributes as unknown as HadamardAttributes;
    const [source, before] = turn.inputs;
    if (signed && (before || signed.blockSize !== blockSize)) return [];
    const signs = before ? 'first' : signed ? 'last' : 'none';
    add({ source, blockSize, signs, signsFrom: before ?? signed?.signs }, ...(signed?.nodes ?? []), turn);
  }
  const swap = producerOf(last.source, 'transpose');
  if (swap && String((swap.attributes as unknown as TransposeAttributes).permutation) === '1,0')
    add({ source: swap.inputs[0], transposed: true }, swap);
  const decode = producerOf(last.source, 'dequantize');
  if (decode) add({ source: decode.inputs[0] }, decode);
  return chains;
}

/** value = reshape(mul(reshape(source, [-1, n]), signs [n])): signs that are applied to the result of a transform. */
function signsAfter(value: Value, producerOf: (value: Value, op: string) => Node | undefined) {
  const back = producerOf(value, 'reshape');
  const product = back && producerOf(back.inputs[0], 'mul');
  const blocks = product && producerOf(product.inputs[0], 'reshape');
  if (!blocks) return;
  const [source, signs] = [blocks.inputs[0], product.inputs[1]];
  const [blockSize] = signs.type.shape;
  const fits = signs.type.shape.length === 1 && product.inputs[0].type.shape.at(-1) === blockSize;
  if (!fits || !sameShape(source.type.shape, value.type.shape)) return;
  return { source, signs, blockSize, nodes: [back, product, blocks] };
}
