// selectBits followed by a Hadamard transform, as gradients behind a clipping quantizer take them, becomes one op that one
// kernel runs (kernels/hadamard.ts): the values in between are neither written nor read. The bits are those of both ops.
// Sources are read where the transform stood: where a state was updated in the meantime nothing is fused.

import type { Graph, Node, OpDefinition } from '../../graph/graph.ts';
import { liveNodes } from '../../graph/live-nodes.ts';
import { type HadamardAttributes, hadamardOp } from '../../graph/ops/hadamard.ts';
import { selectBitsOp } from '../../graph/ops/quantize.ts';
import { soleProducers, updatesBetween, withFused } from './fusing.ts';

/** Inputs x and bits: H · (x where its bit is 1, else 0) / √n. */
export const selectedHadamardOp: OpDefinition<HadamardAttributes> = {
  // errors name the op that the caller wrote
  name: hadamardOp.name,
  noGradient: 'it is made when a graph is compiled',
  infer: ([x], attributes) => hadamardOp.infer([x], attributes),
  flops: ([x, bits], attributes) => hadamardOp.flops!([x], attributes) + selectBitsOp.flops!([x, bits], {}),
};

/** The graph with such pairs as one node; the graph itself where there is none. */
export function fuseSelected(graph: Graph): Graph {
  const nodes = liveNodes(graph);
  const producerOf = soleProducers(graph, nodes);
  const fused = new Map<Node, Node>();
  const gone = new Set<Node>();
  for (const [at, node] of nodes.entries()) {
    const { blockSize } = node.attributes as unknown as HadamardAttributes;
    if ((node.op as object) !== hadamardOp || node.inputs.length > 1 || blockSize < 4) continue;
    const select = producerOf(node.inputs[0], selectBitsOp.name);
    if (!select || updatesBetween(nodes, nodes.indexOf(select), at)) continue;
    gone.add(select);
    fused.set(node, { ...node, op: selectedHadamardOp as unknown as Node['op'], inputs: select.inputs });
  }
  return withFused(graph, nodes, fused, gone);
}
