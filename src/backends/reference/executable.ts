// Running a graph node by node on host memory.
//
// Intermediate values lie in one arena at the offsets of the memory plan, so that a wrong plan shows as wrong numbers
// here, in the backend that all others are compared with. Packed intermediate values are objects of their own; their
// bytes are in the plan all the same.

import { atNode } from '../../graph/apply.ts';
import type { Graph, Node, Value } from '../../graph/graph.ts';
import { type GraphPlan, planMemory } from '../../graph/plan.ts';
import { valueBytes } from '../../graph/value-bytes.ts';
import type { AnyTensor, Tensor } from '../../tensor/tensor.ts';
import type { Bindings, Executable } from '../backend.ts';
import { checkLength, findBoundary } from '../bindings.ts';
import { copyTensor, denseTensor, type Precision, referenceTensor, stateTensor } from './buffer.ts';
import type { Kernel } from './kernel.ts';
import { kernels } from './kernels.ts';

interface Step {
  kernel: Kernel;
  inputs: readonly AnyTensor[];
  outputs: readonly AnyTensor[];
  node: Node;
}

export class ReferenceExecutable implements Executable {
  readonly plan: GraphPlan;
  readonly #graph: Graph;
  readonly #precision: Precision;
  readonly #tensors = new Map<Value, AnyTensor>();
  #steps: readonly Step[];

  constructor(graph: Graph, bindings: Bindings, precision: Precision) {
    this.#graph = graph;
    this.#precision = precision;
    const width = precision === 'f64' ? 2 : 1;
    this.plan = planMemory(graph, {
      bytesOf: ({ type }) => valueBytes(type) * (type.dtype === 'f32' ? width : 1),
    });
    this.#bind(bindings);
    const arena = new ArrayBuffer(this.plan.arenaBytes);
    for (const value of this.plan.placements.keys()) this.#place(value, arena);
    this.#steps = this.plan.nodes.map((node) => ({
      kernel: kernels.get(node.op.name)!,
      inputs: node.inputs.map((v) => this.#tensor(v)),
      outputs: node.outputs.map((v) => this.#tensor(v)),
      node,
    }));
  }

  /** Under precision 'f64' float64 values are taken as they are. */
  write(input: string, data: Float32Array | Float64Array | Int32Array): void {
    const tensor = this.#dense(findBoundary('input', input, this.#graph.inputs));
    checkLength('input', input, data.length, tensor.data.length);
    tensor.data.set(data);
  }

  run(): void {
    let held = false;
    for (const { kernel, inputs, outputs, node } of this.#steps) {
      if (held && node.op.updates) continue;
      try {
        if (kernel(inputs, outputs, node.attributes as never) === 'hold updates') held = true;
      } catch (error) {
        throw atNode(error, node.outputs[0].name);
      }
    }
  }

  /** Under precision 'f64' the tensor is f64 unless `out` is given. */
  async read(output: string, out?: Float32Array | Int32Array): Promise<Tensor> {
    const tensor = this.#dense(findBoundary('output', output, this.#graph.outputs));
    if (!out) return { ...tensor, data: tensor.data.slice() };
    checkLength('output', output, out.length, tensor.data.length);
    out.set(tensor.data);
    return { ...tensor, dtype: out instanceof Int32Array ? 'i32' : 'f32', data: out };
  }

  dispose(): void {
    this.#tensors.clear();
    this.#steps = [];
  }

  #bind({ params, states }: Bindings): void {
    for (const [name, value] of this.#graph.params)
      this.#tensors.set(value, referenceTensor(`parameter ${name}`, params.get(name)!));
    for (const [name, value] of this.#graph.states) {
      const buffer = states?.get(name);
      const tensor = buffer ? referenceTensor(`state ${name}`, buffer) : stateTensor(value.type, this.#precision);
      this.#tensors.set(value, tensor);
    }
    for (const [value, tensor] of this.#graph.constants) this.#tensors.set(value, copyTensor(tensor, this.#precision));
  }

  /** Gives a value its tensor: in the arena, or over the memory of the value it is a view of. */
  #place(value: Value, arena: ArrayBuffer): void {
    if (this.#tensors.has(value)) return;
    const { type } = value;
    const { place, root, offset } = this.plan.placements.get(value)!;
    const owner = this.#tensors.get(root);
    if (type.dtype === 'packed') {
      const data = owner?.kind === 'packed' ? owner.data : emptyPacked(type.format);
      this.#tensors.set(value, { kind: 'packed', shape: type.shape, data });
    } else if (place === 'arena') {
      this.#tensors.set(value, denseTensor(type, this.#precision, arena, offset));
    } else if (owner?.kind === 'dense') {
      this.#tensors.set(value, { ...owner, shape: type.shape });
    } else {
      this.#tensors.set(value, denseTensor(type, this.#precision));
    }
  }

  #tensor(value: Value): AnyTensor {
    return this.#tensors.get(value)!;
  }

  #dense(value: Value): Tensor {
    const tensor = this.#tensors.get(value);
    if (tensor?.kind === 'dense') return tensor;
    throw new Error(
      `reference: ${value.name} cannot be copied: ${tensor ? 'it is packed' : 'the executable was disposed'}`,
    );
  }
}

/** Stands in until the quantize kernel sets the codes. */
function emptyPacked(format: Extract<Value['type'], { dtype: 'packed' }>['format']) {
  const none = new Uint8Array(0);
  return { format, rows: 0, cols: 0, codes: none, scales: none, zeroPoints: undefined, tensorScale: 1 };
}
