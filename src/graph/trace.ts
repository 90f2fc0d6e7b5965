// Tracing: model code runs once on Values and leaves a Graph.
//
//   const graph = trace((g) => {
//     const x = g.input('x', f32([1, 8]));
//     const w = g.param('w', f32([4, 8]));
//     g.output('y', matmul(x, w, { transposeB: true }));
//   });
//
// Op functions find the graph through their inputs, so only declarations need the builder.

import { userError } from '../errors.ts';
import type { AnyTensor } from '../tensor/tensor.ts';
import { appendConstant, appendValue } from './apply.ts';
import { checkShape, shapeError } from './check.ts';
import type { Graph, Value, ValueType } from './graph.ts';
import { printType, sameType } from './value-type.ts';

type Role = 'input' | 'param' | 'state';

/** Declares what enters and leaves a graph. */
export class GraphBuilder {
  readonly graph: Graph = {
    inputs: new Map(),
    params: new Map(),
    states: new Map(),
    constants: new Map(),
    outputs: new Map(),
    nodes: [],
    values: [],
    scopes: [],
    rules: new Map(),
    regions: [],
  };

  /** Data that is written before a run. */
  input(name: string, type: ValueType): Value {
    return this.#declare('input', name, type);
  }

  /** A weight, bound at compile time. Asking again for the same name and type gives the same value (tied weights). */
  param(name: string, type: ValueType): Value {
    return this.#declare('param', name, type);
  }

  /** Memory that outlives a run (a KV cache); ops like cacheWrite update it. */
  state(name: string, type: ValueType): Value {
    return this.#declare('state', name, type);
  }

  /** Data that is part of the graph, such as RoPE frequencies. */
  constant(tensor: AnyTensor, name?: string): Value {
    return appendConstant(this.graph, tensor, name);
  }

  /** Names a value that a run leaves to be read; the value is returned. */
  output(name: string, value: Value): Value {
    if (this.graph.outputs.has(name)) throw duplicate('output', name);
    if (value.graph !== this.graph)
      throw userError({ code: 'graph-foreign', op: 'trace', problem: `output ${name} is a value of another graph` });
    if (value.type.dtype === 'packed')
      throw shapeError(
        'trace',
        `output ${name} is packed`,
        printType(value.type),
        'f32 or i32',
        'call dequantize first',
      );
    this.graph.outputs.set(name, value);
    return value;
  }

  /** Runs `body` with `name` added to the layer path of the nodes it makes. */
  scope<T>(name: string, body: () => T): T {
    this.graph.scopes.push(name);
    try {
      return body();
    } finally {
      this.graph.scopes.pop();
    }
  }

  /**
   * A scope whose values are not kept for the backward pass: gradients() appends its nodes again, from the values that
   * enter it, just before it differentiates them. A region inside a region belongs to the outer one. Without a name the
   * layer path stays as it is.
   *
   * Throws a SubbyteError when the body updates a state, which cannot be done twice.
   *
   * @example h = g.checkpoint('layers.0', () => block(h))
   */
  checkpoint<T>(name: string | undefined, body: () => T): T {
    const scoped = () => (name === undefined ? body() : this.scope(name, body));
    if (this.#inRegion) return scoped();
    const { nodes, regions } = this.graph;
    const first = nodes.length;
    this.#inRegion = true;
    try {
      const result = scoped();
      const update = nodes.slice(first).find((node) => node.op.updates);
      if (update) throw updateInRegion(name ?? this.graph.scopes.join('.'), update.outputs[0].name);
      if (nodes.length > first) regions.push({ first, end: nodes.length });
      return result;
    } finally {
      this.#inRegion = false;
    }
  }

  #inRegion = false;

  #declare(role: Role, name: string, type: ValueType): Value {
    const map = { input: this.graph.inputs, param: this.graph.params, state: this.graph.states }[role];
    const known = map.get(name);
    if (known && role === 'param' && sameType(known.type, type)) return known;
    if (known) throw duplicate(role, name, known.type, type);
    checkShape('trace', `${role} ${name}`, type.shape);
    const value = appendValue(this.graph, type, name);
    map.set(name, value);
    return value;
  }
}

/** Runs `build` on an empty graph and returns what it traced. */
export function trace(build: (g: GraphBuilder) => void): Graph {
  const builder = new GraphBuilder();
  build(builder);
  return builder.graph;
}

function updateInRegion(region: string, node: string) {
  return userError({
    code: 'gradient-region',
    op: 'checkpoint',
    problem: `${node} updates a state inside the recomputed region ${region}`,
    fix: 'update states outside of checkpoint()',
  });
}

function duplicate(role: string, name: string, known?: ValueType, type?: ValueType) {
  return userError({
    code: 'graph-duplicate',
    op: 'trace',
    problem: `${role} ${name} is declared twice`,
    ...(known && type ? { got: printType(type), expected: printType(known) } : {}),
    fix: 'use one name for one value',
  });
}
