// Writing gradient rules: most ops have one output, and each input's gradient is an expression of its own.

import type { GradientRule, Node, Value } from './graph.ts';

/**
 * The rule of an op with one output. `rule` gets the node and the gradient of its output and gives, for each input, a
 * function that appends its gradient (undefined: none); only those that are needed are called.
 */
export function perInput<A extends object>(
  rule: (node: Node<A>, gradient: Value) => readonly ((() => Value) | undefined)[],
): GradientRule<A> {
  return (node, [gradient], needed) =>
    gradient
      ? rule(node, gradient).map((make, i) => (needed[i] ? make?.() : undefined))
      : node.inputs.map(() => undefined);
}
