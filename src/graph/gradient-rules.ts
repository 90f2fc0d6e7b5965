// Gradient rules that a caller puts in place of an op's own.
//
//   straightThrough   dx = dy                                                   (Bengio et al. 2013, arXiv:1308.3432)
//   scaleGradient     dx = factor · dy
//   onIncoming        any rule, after a change of the incoming gradient
//
// A rule holds for one node (withGradient) or for all nodes of an op (the options of gradients()). Rules for rounding
// to a format are in rounding-rules.ts, those of grids whose step is trained in learned-grids.ts.

import { userError } from '../errors.ts';
import type { GradientRule, Value } from './graph.ts';
import { affine } from './ops/affine.ts';
import { reshape } from './ops/layout.ts';

/**
 * Replaces the gradient rule of the node that made `value`, and returns the value.
 *
 * Throws a SubbyteError when no node made it (an input or a parameter).
 *
 * @example dequantize(withGradient(quantize(x, format), straightThrough))
 */
export function withGradient(value: Value, rule: GradientRule): Value {
  const { nodes, rules } = value.graph;
  const node = nodes.findLast((n) => n.outputs.includes(value));
  if (!node)
    throw userError({
      code: 'gradient-rule',
      op: 'withGradient',
      problem: `${value.name} is no result of an op`,
      fix: 'give the rule to an op that uses it',
    });
  rules.set(node, rule);
  return value;
}

/** The same numbers (a view), through which no gradient passes. */
export const stopGradient = (x: Value): Value => withGradient(reshape(x, x.type.shape), () => []);

/** The same numbers (a view), whose gradient is multiplied by `factor` on its way to x. */
export const scaleGradient = (x: Value, factor: number): Value =>
  withGradient(reshape(x, x.type.shape), (_, [g]) => [g && reshape(affine(g, { scale: factor }), x.type.shape)]);

/** The first input gets the output's gradient, as if the op were the identity; other inputs get none. */
export const straightThrough: GradientRule = (_, [g]) => [g];

/**
 * A rule that first changes the gradients that come in: quantizing them before each product, clipping, scaling.
 * `rule` is the op's own when absent.
 *
 * @example gradients(g, loss, params, { rules: { matmul: onIncoming((dy) => dequantize(quantize(dy, mxfp4))) } })
 */
export function onIncoming(change: (gradient: Value) => Value, rule?: GradientRule): GradientRule {
  return (node, incoming, needed) => {
    const inner = rule ?? node.op.gradient;
    if (!inner)
      throw userError({
        code: 'gradient-missing',
        op: node.op.name,
        problem: `onIncoming changes a rule that ${node.outputs[0].name} does not have`,
        fix: 'pass the rule as its second argument',
      });
    const changed = incoming.map((gradient) => gradient && change(gradient));
    return inner(node, changed, needed);
  };
}
