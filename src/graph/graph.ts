// The traced graph: what every engine component works on.
//
// Model code calls op functions on Values; each call appends a Node with its static shapes. Nothing is computed while
// tracing. Differentiation, memory planning, execution, export and quantizing rewrites read and write this structure.
// SSA: every Value is produced once, by a node or as an input, parameter, state or constant. States (the KV cache)
// are the only memory that outlives a run; ops that update one declare it as in-place.

import type { Format } from '../formats/format.ts';
import type { Shape } from '../tensor/shape.ts';
import type { AnyTensor } from '../tensor/tensor.ts';

/** f32 and i32 are dense; packed values (weights, quantized activations, 16-bit storage) carry their Format. */
export type ValueType = { dtype: 'f32' | 'i32'; shape: Shape } | { dtype: 'packed'; shape: Shape; format: Format };

export interface Value {
  readonly id: number;
  readonly type: ValueType;
  readonly graph: Graph;
  /** Set for inputs, parameters, states and outputs; otherwise the producing op's label, for messages. */
  readonly name: string;
}

/** Attributes are plain JSON data, so that a graph can be printed, hashed and compared. */
export type Attributes = Readonly<Record<string, unknown>>;

/** Declared once per op: shape rule, gradient rule, in-place contract. Kernels live in the backends. */
export interface OpDefinition<A extends object = Attributes> {
  readonly name: string;
  /** Checks the inputs and gives the output types; throws a SubbyteError that names op, shapes and the fix. */
  infer(inputs: readonly ValueType[], attributes: A): ValueType[];
  /** Output i shares the memory of input inPlace[i] (cache updates, views). */
  readonly inPlace?: Readonly<Record<number, number>>;
  /** The op writes to the memory it shares, as cacheWrite does; without it a shared output is only a view. */
  readonly updates?: boolean;
  /**
   * Element i of output 0 depends on element i of the inputs alone, so output 0 may take the memory of an input of
   * the same byte size that nobody reads afterwards. Kernels of such ops must stand output and input being one memory.
   */
  readonly elementwise?: boolean;
  /** Multiply-adds ×2 of one execution, for rate and planning reports. */
  flops?(inputs: readonly ValueType[], attributes: A): number;
  /** Reverse-mode rule. Without one, differentiating through the op is an error unless the caller brings a rule. */
  readonly gradient?: GradientRule<A>;
  /** What to do instead, for the error message of an op without a rule. */
  readonly noGradient?: string;
}

/**
 * Builds gradient nodes: given the node and the gradients of its outputs, the gradients of its inputs.
 *
 * Gradients are f32 and have the shape of their value, also where that value is packed. An output that the loss does
 * not depend on has none; `needed` says which inputs' gradients are asked for, and the others may be undefined. An
 * undefined gradient of a needed input stops there.
 */
export type GradientRule<A extends object = Attributes> = (
  node: Node<A>,
  outputGradients: readonly (Value | undefined)[],
  needed: readonly boolean[],
) => readonly (Value | undefined)[];

export interface Node<A extends object = Attributes> {
  readonly id: number;
  readonly op: OpDefinition<A>;
  readonly inputs: readonly Value[];
  readonly outputs: readonly Value[];
  readonly attributes: A;
  /** Layer path such as `layers.3.mlp`, for messages and profiles. */
  readonly scope: string;
}

/** Nodes first … end−1 (indices into Graph.nodes), whose values are computed again for the backward pass. */
export interface Region {
  readonly first: number;
  readonly end: number;
}

export interface Graph {
  readonly inputs: Map<string, Value>;
  readonly params: Map<string, Value>;
  readonly states: Map<string, Value>;
  readonly constants: Map<Value, AnyTensor>;
  readonly outputs: Map<string, Value>;
  readonly nodes: Node[];
  /** Every value by id. */
  readonly values: Value[];
  /** The layer path that is being traced, outermost first; nodes take it as their scope. */
  readonly scopes: string[];
  /** Gradient rules that a caller put in place of the ops' own. */
  readonly rules: Map<Node, GradientRule>;
  /** Regions marked for recomputation, in order, none inside another. */
  readonly regions: Region[];
}
