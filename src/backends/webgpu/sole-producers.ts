// Which node made a value that nobody else reads, so that passes over a graph may do without the value.

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
