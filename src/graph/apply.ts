// Appending nodes to a graph: the one way in which op functions and gradient rules make Values.

import { SubbyteError } from '../errors.ts';
import type { AnyTensor } from '../tensor/tensor.ts';
import { checkShape, shapeError } from './check.ts';
import type { Graph, Node, OpDefinition, Value, ValueType } from './graph.ts';
import { typeOfTensor } from './value-type.ts';

/**
 * Appends one execution of `op` to the graph of its inputs and returns its outputs.
 *
 * Runs the shape rule, so a wrong shape is reported where the model code makes the call. Throws a SubbyteError from
 * the shape rule, or when the inputs come from different graphs.
 */
export function applyOp<A extends object>(
  op: OpDefinition<A>,
  inputs: readonly Value[],
  attributes: A,
): readonly Value[] {
  const graph = inputs[0].graph;
  if (inputs.some((v) => v.graph !== graph)) {
    const names = inputs.map((v) => v.name).join(', ');
    throw shapeError(op.name, 'inputs belong to different graphs', names, 'values of one graph', 'trace them together');
  }
  const scope = graph.scopes.join('.');
  const id = graph.nodes.length;
  const label = `${scope ? `${scope}/` : ''}${op.name}#${id}`;
  const types = inferTypes(op, inputs, attributes, label);
  const outputs = types.map((type, i) => appendValue(graph, type, i === 0 ? label : `${label}:${i}`));
  // The graph holds nodes of every op; only the op itself knows the type of its attributes.
  graph.nodes.push({ id, op, inputs, outputs, attributes, scope } as unknown as Node);
  return outputs;
}

function inferTypes<A extends object>(
  op: OpDefinition<A>,
  inputs: readonly Value[],
  attributes: A,
  label: string,
): readonly ValueType[] {
  try {
    const types = op.infer(
      inputs.map((v) => v.type),
      attributes,
    );
    for (const type of types) checkShape(op.name, 'the result', type.shape);
    return types;
  } catch (error) {
    // Outside a layer the stack trace says where; inside one the layer's number matters.
    throw inputs[0].graph.scopes.length > 0 ? atNode(error, label) : error;
  }
}

/** Adds to a SubbyteError which node it came from (`layers.3.mlp/matmul#41`); other errors stay as they are. */
export function atNode(error: unknown, label: string): unknown {
  if (!(error instanceof SubbyteError) || error.details.tensor) return error;
  return new SubbyteError(error.kind, { ...error.details, tensor: label }, { cause: error });
}

/** Adds a value that no node produces yet: an input, parameter, state or constant, or a node's output. */
export function appendValue(graph: Graph, type: ValueType, name: string): Value {
  const value: Value = { id: graph.values.length, type, graph, name };
  graph.values.push(value);
  return value;
}

/** Adds data that is part of the graph. */
export function appendConstant(graph: Graph, tensor: AnyTensor, name = `constant#${graph.constants.size}`): Value {
  const type = typeOfTensor(tensor);
  checkShape('trace', `constant ${name}`, type.shape);
  const value = appendValue(graph, type, name);
  graph.constants.set(value, tensor);
  return value;
}
