// Which neighbouring nodes share dispatches (OpKernel.joins).

import type { Node, Value } from '../../graph/graph.ts';
import type { GraphPlan } from '../../graph/plan.ts';
import { kernelOf } from './kernels.ts';

/** The nodes of a plan in order, those that share dispatches together. */
export function joinNodes({ nodes, placements }: GraphPlan): readonly (readonly Node[])[] {
  const groups: Node[][] = [];
  const rootsOf = (values: readonly Value[]) => values.map((value) => placements.get(value)!.root);
  /** Neither writes what the other reads or writes. */
  const apart = (a: Node, b: Node) => {
    const [fromA, toA, fromB, toB] = [a.inputs, a.outputs, b.inputs, b.outputs].map(rootsOf);
    return !toA.some((v) => fromB.includes(v) || toB.includes(v)) && !toB.some((v) => fromA.includes(v));
  };
  for (const node of nodes) {
    const group = groups.at(-1);
    const joins = group?.[0].op === node.op && kernelOf(node)?.joins?.(group[0], node);
    if (group && joins && group.every((other) => apart(other, node))) group.push(node);
    else groups.push([node]);
  }
  return groups;
}
