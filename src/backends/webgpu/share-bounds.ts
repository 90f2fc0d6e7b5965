// The largest magnitude of an operand is looked for once, however many products on tensor cores read it.
//
// A node of an op of this backend's own finds it before the first product that asks; products get its output as a further
// input. A state may change between products, so what is known is forgotten where one is updated.

import type { Graph, Node, OpDefinition, Value } from '../../graph/graph.ts';
import { liveNodes } from '../../graph/live-nodes.ts';
import { i32 } from '../../graph/value-type.ts';
import type { GpuTraits } from './device.ts';
import { dense, type OpKernel } from './kernel.ts';
import { boundCommand, boundWords } from './kernels/matmul-bound.ts';
import { planTensorProduct } from './kernels/matmul-tensor-cores.ts';
import type { OperandStorage } from './kernels/operand-storage.ts';

interface OperandBoundAttributes {
  readonly storage: OperandStorage;
}

/** x → parts of its largest finite magnitude, the bits of f32 [256]. */
export const operandBoundOp: OpDefinition<OperandBoundAttributes> = {
  name: 'operandBound',
  noGradient: 'it is made when a graph is compiled',
  infer: () => [i32([boundWords])],
};

export const operandBound: OpKernel = {
  encode({ node, inputs, outputs }) {
    const { storage } = node.attributes as unknown as OperandBoundAttributes;
    return [boundCommand(inputs[0], storage, dense(outputs, 0).range)];
  },
};

/** The graph with these nodes; the graph itself where no product needs one. */
export function shareBounds(graph: Graph, gpu: GpuTraits): Graph {
  const known = new Map<Value, Value>();
  const changed: Node[] = [];
  let next = Math.max(graph.values.length, ...graph.nodes.flatMap(({ outputs }) => outputs.map(({ id }) => id + 1)));
  const nodes = liveNodes(graph);
  for (const node of nodes) {
    if (node.op.updates) known.clear();
    const plan = node.op.name === 'matmul' ? planTensorProduct(node, gpu) : undefined;
    const found = [plan?.a, plan?.b].flatMap((side, i) => {
      if (!side?.bounded) return [];
      const value = node.inputs[i];
      const have = known.get(value);
      if (have) return [have];
      const bound: Value = { id: next++, type: i32([boundWords]), graph, name: `bound of ${value.name}` };
      const op = operandBoundOp as unknown as Node['op'];
      changed.push({
        ...node,
        id: bound.id,
        op,
        inputs: [value],
        outputs: [bound],
        attributes: { storage: side.storage },
      });
      known.set(value, bound);
      return [bound];
    });
    changed.push(found.length > 0 ? { ...node, inputs: [...node.inputs, ...found] } : node);
  }
  return changed.length > nodes.length ? { ...graph, nodes: changed } : graph;
}
