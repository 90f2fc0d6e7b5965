// What passes over a graph share that put one node in the place of several: which values nobody else reads, where sources
// may be read later, and the graph that is left.

import type { Graph, Node, Value } from '../../graph/graph.ts';

/** Looks up the node of op `op` that made a value which one node alone reads, and not the caller. */
export function soleProducers(graph: Graph, nodes: readonly Node[]): (value: Value, op: string) => Node | undefined {
  const readers = new Map<Value, number>();
  const count = (v: Value) => readers.set(v, (readers.get(v) ?? 0) + 1);
  for (const { inputs } of nodes) inputs.forEach(count);
  for (const value of graph.outputs.values()) count(value);
  const producers = new Map(nodes.map((node) => [node.outputs[0], node]));
  return (value, op) => {
    const node = readers.get(value) === 1 ? producers.get(value) : undefined;
    return node?.op.name === op ? node : undefined;
  };
}

/** Whether a state is updated from node `first` up to node `end`: what a node reads at `first` may have changed there. */
export const updatesBetween = (nodes: readonly Node[], first: number, end: number): boolean =>
  nodes.slice(first, end).some(({ op }) => op.updates);

/** The graph of `nodes` without those that are gone, and with `fused` for what they stand for; the same where none is. */
export function withFused(
  graph: Graph,
  nodes: readonly Node[],
  fused: ReadonlyMap<Node, Node>,
  gone: ReadonlySet<Node>,
): Graph {
  if (fused.size === 0) return graph;
  return { ...graph, nodes: nodes.filter((node) => !gone.has(node)).map((node) => fused.get(node) ?? node) };
}
