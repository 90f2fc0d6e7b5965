// The largest magnitude of an operand is looked for once, however many products on tensor cores read it.
//
// A node of an op of this backend's own finds it before the first product that asks; products get its output as a further
// input. Where a node of the graph rounds the operand to bf16, that node finds it on the way. A state may change between
// products, so what is known is forgotten where one is updated.

import type { Graph, Node, OpDefinition, Value } from '../../graph/graph.ts';
import { liveNodes } from '../../graph/live-nodes.ts';
import { type QuantizeAttributes, quantizeOp } from '../../graph/ops/quantize.ts';
import { i32 } from '../../graph/value-type.ts';
import { elementCount } from '../../tensor/shape.ts';
import type { GpuTraits } from './device.ts';
import { dense, type OpKernel, packedOperand } from './kernel.ts';
import { boundCommand, boundWords } from './kernels/matmul-bound.ts';
import { planTensorProduct } from './kernels/matmul-tensor-cores.ts';
import type { OperandStorage } from './kernels/operand-storage.ts';
import { roundBounded } from './kernels/round-bounded.ts';

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

/** quantize to bf16, and what operandBound finds of the result. */
export const boundedRoundOp: OpDefinition<QuantizeAttributes> = {
  // errors name the op that the caller wrote
  name: quantizeOp.name,
  noGradient: 'it is made when a graph is compiled',
  infer: (inputs, attributes) => [...quantizeOp.infer(inputs, attributes), i32([boundWords])],
};

export const boundedRound: OpKernel = {
  encode: ({ inputs, outputs, gpu }) => [
    roundBounded(dense(inputs, 0), packedOperand(outputs, 0), dense(outputs, 1), gpu.workgroupThreads),
  ],
};

/** Whether the node rounds to bf16 and nothing else, in eights. */
function roundsToBf16({ op, attributes, outputs }: Node): boolean {
  if ((op as object) !== quantizeOp || outputs.length > 1) return false;
  const { format } = attributes as unknown as QuantizeAttributes;
  return format.kind === 'float' && format.name === 'bf16' && elementCount(outputs[0].type.shape) % 8 === 0;
}

/** The graph with these nodes; the graph itself where no product needs one. */
export function shareBounds(graph: Graph, gpu: GpuTraits): Graph {
  const known = new Map<Value, Value>();
  const changed: Node[] = [];
  let next = Math.max(graph.values.length, ...graph.nodes.flatMap(({ outputs }) => outputs.map(({ id }) => id + 1)));
  const nodes = liveNodes(graph);
  /** Values that a node rounds to bf16, which no update changes: where in `changed` it is, and the bound. */
  const rounded = new Map<Value, { at: number; bound?: Value }>();
  for (const node of nodes) {
    if (node.op.updates) known.clear();
    if (roundsToBf16(node)) rounded.set(node.outputs[0], { at: changed.length });
    const plan = node.op.name === 'matmul' ? planTensorProduct(node, gpu) : undefined;
    const found = [plan?.a, plan?.b].flatMap((side, i) => {
      if (!side?.bounded) return [];
      const value = node.inputs[i];
      const made = rounded.get(value);
      const have = made?.bound ?? known.get(value);
      if (have) return [have];
      const bound: Value = { id: next++, type: i32([boundWords]), graph, name: `bound of ${value.name}` };
      if (made) {
        made.bound = bound;
        const op = boundedRoundOp as unknown as Node['op'];
        changed[made.at] = { ...changed[made.at], op, outputs: [value, bound] };
        return [bound];
      }
      known.set(value, bound);
      const op = operandBoundOp as unknown as Node['op'];
      const attributes = { storage: side.storage };
      changed.push({ ...node, id: bound.id, op, inputs: [value], outputs: [bound], attributes });
      return [bound];
    });
    changed.push(found.length > 0 ? { ...node, inputs: [...node.inputs, ...found] } : node);
  }
  const same = changed.length === nodes.length && changed.every((node, i) => node === nodes[i]);
  return same ? graph : { ...graph, nodes: changed };
}
