// Products that read an operand along its other axis instead of a transposed copy of it.
//
//   matmul(transpose(v), …)                                            → matmul(v, …), the flag of that side turned
//   matmul(quantize(transpose(v)), …)              of bf16 or f16      → matmul(quantize(v), …)
//   matmul(quantize(transpose(dequantize(p))), …)  p of the same format → matmul(p, …)
//   matmul(transposePacked(p), …)                  of bf16 or f16      → matmul(p, …)
//
// Rounding to bf16 or f16 does not depend on a number's neighbours, so that it may happen before the transposition. A
// packed operand whose last dimension is not K leaves the contract of matmul; only the kernels on tensor cores read it, so
// all but the first happen where the product runs there. Where a state was updated in the meantime nothing changes.

import type { Format } from '../../formats/format.ts';
import type { Graph, Node, Value } from '../../graph/graph.ts';
import { liveNodes } from '../../graph/live-nodes.ts';
import type { TransposeAttributes } from '../../graph/ops/layout.ts';
import type { MatmulAttributes } from '../../graph/ops/matmul.ts';
import type { QuantizeAttributes } from '../../graph/ops/quantize.ts';
import { packed } from '../../graph/value-type.ts';
import type { GpuTraits } from './device.ts';
import { planTensorProduct } from './kernels/matmul-tensor-cores.ts';

/** What stands for a transposed operand: a value, or the rounding of one that has to be made. */
interface Source {
  readonly value: Value;
  /** Rounds `value` to this. */
  readonly format?: Format;
  /** First node of what is skipped. */
  readonly from: Node;
}

/** The graph with these products changed; the graph itself where there is none. */
export function readTransposed(graph: Graph, gpu: GpuTraits): Graph {
  const nodes = liveNodes(graph);
  const place = new Map(nodes.map((node, i) => [node, i]));
  const producers = new Map(nodes.flatMap((node) => node.outputs.map((v) => [v, node] as const)));
  const rounded = new Map<Value, { format: Format; output: Value }[]>();
  const changed: Node[] = [];
  let next = graph.values.length;
  for (const [at, node] of nodes.entries()) {
    let current = node;
    if (node.op.name === 'matmul' && node.inputs.every(({ type }) => type.shape.length === 2))
      for (const side of [0, 1] as const) {
        const source = transposedSource(node.inputs[side], producers);
        if (!source || nodes.slice(place.get(source.from), at).some(({ op }) => op.updates)) continue;
        const { value, format } = source;
        const made = format && rounded.get(value)?.find((r) => sameFloat(r.format, format))?.output;
        const operand =
          format && !made
            ? { ...value, id: next, type: packed(value.type.shape, format), name: `${value.name} rounded` }
            : (made ?? value);
        const turned = turn(current, side, operand);
        if (operand.type.dtype === 'packed' && !planTensorProduct(turned, gpu)) continue;
        if (format && !made) {
          const quantize = producers.get(node.inputs[side]) as Node;
          changed.push({ ...quantize, inputs: [value], outputs: [operand] });
          remember(rounded, value, format, operand);
          next++;
        }
        current = turned;
      }
    const format = plainRounding(node);
    if (format) remember(rounded, node.inputs[0], format, node.outputs[0]);
    changed.push(current);
  }
  return changed.every((node, i) => node === nodes[i]) ? graph : { ...graph, nodes: changed };
}

const remember = (rounded: Map<Value, { format: Format; output: Value }[]>, v: Value, format: Format, output: Value) =>
  void rounded.set(v, [...(rounded.get(v) ?? []), { format, output }]);

function turn(node: Node, side: 0 | 1, operand: Value): Node {
  const { transposeA, transposeB } = node.attributes as unknown as MatmulAttributes;
  const attributes = side === 0 ? { transposeA: !transposeA, transposeB } : { transposeA, transposeB: !transposeB };
  return { ...node, inputs: node.inputs.with(side, operand), attributes };
}

function transposedSource(value: Value, producers: ReadonlyMap<Value, Node>): Source | undefined {
  const last = producers.get(value);
  if (!last) return undefined;
  if (isSwap(last)) return { value: last.inputs[0], from: last };
  if (last.op.name === 'transposePacked') return turnable(last.inputs[0]) && { value: last.inputs[0], from: last };
  const format = plainRounding(last);
  const swap = format && producers.get(last.inputs[0]);
  if (!swap || !isSwap(swap)) return undefined;
  const decode = producers.get(swap.inputs[0]);
  const stored = decode?.op.name === 'dequantize' ? decode.inputs[0] : undefined;
  if (decode && stored?.type.dtype === 'packed' && sameFloat(stored.type.format, format))
    return { value: stored, from: decode };
  return { value: swap.inputs[0], format, from: swap };
}

/** Packed values whose numbers lie as those of a dense matrix do. */
const turnable = ({ type }: Value) =>
  type.dtype === 'packed' && type.format.kind === 'float' && type.format.name !== 'f32' ? true : undefined;

/** The format of a quantize node that rounds each number by itself. */
function plainRounding({ op, inputs, attributes }: Node): Format | undefined {
  if (op.name !== 'quantize' || inputs.length > 1) return undefined;
  const { format } = attributes as unknown as QuantizeAttributes;
  return format.kind === 'float' && format.name !== 'f32' ? format : undefined;
}

const sameFloat = (a: Format, b: Format) => a.kind === 'float' && b.kind === 'float' && a.name === b.name;

const isSwap = ({ op, attributes }: Node) =>
  op.name === 'transpose' && String((attributes as unknown as TransposeAttributes).permutation) === '1,0';
