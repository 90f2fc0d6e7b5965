// Dead-node elimination: what a run has to compute.

import type { Graph, Node, Value } from './graph.ts';

/**
 * The nodes, in execution order, that an output needs or that update a state.
 *
 * A node that nobody reads is left out together with the nodes that only it needed. The graph itself stays as traced.
 */
export function liveNodes(graph: Graph): readonly Node[] {
  const needed = new Set<Value>(graph.outputs.values());
  const live: Node[] = [];
  for (const node of graph.nodes.toReversed()) {
    if (!node.op.updates && !node.outputs.some((v) => needed.has(v))) continue;
    for (const v of node.inputs) needed.add(v);
    live.push(node);
  }
  return live.reverse();
}
