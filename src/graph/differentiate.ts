// Reverse-mode differentiation: appends the nodes that compute gradients to the graph that computes the loss.
//
// Method: nodes between the wanted values and the loss are visited from the last to the first; each one's rule turns
// the gradients of its outputs into those of its inputs, and a value that is used several times adds up what its uses
// give (adds are elementwise, so the memory plan accumulates in place). The rule is the caller's for that node
// (withGradient), the caller's for the op (options), or the op's own, in this order. Values of a recomputed region are
// appended again from what enters the region, just before its nodes are visited, so that the forward values die early.
// Source: Griewank and Walther, "Evaluating Derivatives", 2008, chapters 3 and 12; Chen et al. 2016 (arXiv:1604.06174)
// for recomputation. It does not do: second derivatives through the fused backward ops, sparse gradients.

import { type SubbyteError, userError } from '../errors.ts';
import { elementCount, printShape, sameShape } from '../tensor/shape.ts';
import { tensorF32 } from '../tensor/tensor.ts';
import { applyOp } from './apply.ts';
import { shapeError } from './check.ts';
import type { GradientRule, Graph, Node, Region, Value } from './graph.ts';
import { add } from './ops/arithmetic.ts';
import type { GraphBuilder } from './trace.ts';
import { printType } from './value-type.ts';

export interface GradientOptions {
  /** Gradient of the loss itself, of its shape; 1 when absent, and then the loss must have one element. */
  seed?: Value;
  /** Rules by op name, in place of the ops' own: `{ quantize: straightThrough }`. */
  rules?: Readonly<Record<string, GradientRule>>;
}

/**
 * The gradients of `loss` (f32) by each value of `wrt` (f32), in their shapes, as values of the same graph.
 *
 * Throws a SubbyteError when a wanted value is not dense f32, when the loss does not depend on it, when an op on the way
 * has no rule, and when a rule gives a gradient of the wrong shape.
 *
 * @example const [dw] = gradients(g, mean(crossEntropy(h, w, targets)), [w]);
 */
export function gradients(
  g: GraphBuilder,
  loss: Value,
  wrt: readonly Value[],
  { seed, rules = {} }: GradientOptions = {},
): Value[] {
  const { graph } = g;
  checkRequest(graph, loss, wrt, seed);
  const forward = graph.nodes.slice();
  const active = dependents(forward, wrt);
  const known = new Map<Value, Value>([[loss, seed ?? one(g, loss)]]);
  let copied: { region: Region; copies: ReadonlyMap<Value, Value> } | undefined;
  for (let at = forward.length - 1; at >= 0; at--) {
    const node = forward[at];
    const incoming = node.outputs.map((v) => known.get(v));
    const needed = node.inputs.map((v) => active.has(v));
    if (!incoming.some(Boolean) || !needed.some(Boolean)) continue;
    const region = graph.regions.find((r) => r.first <= at && at < r.end);
    if (region && copied?.region !== region) copied = { region, copies: recompute(g, forward, region) };
    const seen = region && copied ? withCopies(node, copied.copies) : node;
    const rule = graph.rules.get(node) ?? rules[node.op.name] ?? node.op.gradient;
    if (!rule) throw missingRule(node);
    inScope(g, 'gradient', node, () => {
      const found = rule(seen, incoming, needed);
      node.inputs.forEach((input, i) => {
        const gradient = needed[i] ? found[i] : undefined;
        if (!gradient) return;
        checkGradient(node, input, gradient);
        const sum = known.get(input);
        known.set(input, sum ? add(sum, gradient) : gradient);
      });
    });
  }
  return wrt.map((v) => {
    const gradient = known.get(v);
    if (gradient) return gradient;
    throw userError({
      code: 'gradient-independent',
      op: 'gradients',
      problem: `the loss does not depend on ${v.name} through ops that have gradients`,
      fix: 'leave it out, or use a rule that does not stop the gradient',
    });
  });
}

/** The wanted values and everything computed from them, except indices, which carry no gradient. */
function dependents(nodes: readonly Node[], wrt: readonly Value[]): ReadonlySet<Value> {
  const active = new Set<Value>(wrt);
  for (const node of nodes) {
    if (!node.inputs.some((v) => active.has(v))) continue;
    for (const v of node.outputs) if (v.type.dtype !== 'i32') active.add(v);
  }
  return active;
}

/** Appends the nodes of a region again and gives the copy of each value; those that nobody reads never run. */
function recompute(g: GraphBuilder, forward: readonly Node[], { first, end }: Region): ReadonlyMap<Value, Value> {
  const copies = new Map<Value, Value>();
  for (const node of forward.slice(first, end)) {
    const { inputs } = withCopies(node, copies);
    const outputs = inScope(g, 'recompute', node, () => applyOp(node.op, inputs, node.attributes));
    node.outputs.forEach((v, i) => void copies.set(v, outputs[i]));
  }
  return copies;
}

/** The node as a rule should see it: values of a recomputed region replaced by their copies. */
function withCopies(node: Node, copies: ReadonlyMap<Value, Value>): Node {
  const copy = (v: Value) => copies.get(v) ?? v;
  return { ...node, inputs: node.inputs.map(copy), outputs: node.outputs.map(copy) };
}

/** `gradient.layers.3.mlp`: the pass and the layer of the forward node. */
function inScope<T>(g: GraphBuilder, pass: string, node: Node, body: () => T): T {
  return g.scope(pass, () => (node.scope ? g.scope(node.scope, body) : body()));
}

function one(g: GraphBuilder, loss: Value): Value {
  if (elementCount(loss.type.shape) === 1) return g.constant(tensorF32(loss.type.shape, Float32Array.of(1)));
  throw userError({
    code: 'gradient-loss',
    op: 'gradients',
    problem: `the loss ${loss.name} is not one number`,
    got: printType(loss.type),
    expected: 'one element',
    fix: 'take the mean or the sum, or pass a seed of its shape',
  });
}

function checkRequest(graph: Graph, loss: Value, wrt: readonly Value[], seed: Value | undefined): void {
  for (const v of [loss, ...wrt, ...(seed ? [seed] : [])]) {
    if (v.graph === graph && v.type.dtype === 'f32') continue;
    const foreign = v.graph !== graph;
    throw userError({
      code: 'gradient-request',
      op: 'gradients',
      problem: foreign ? `${v.name} belongs to another graph` : `${v.name} is not dense f32`,
      got: printType(v.type),
      fix: foreign ? 'trace it with this builder' : 'ask for f32 values; keep trained weights in f32 and quantize them',
    });
  }
  if (!seed || sameShape(seed.type.shape, loss.type.shape)) return;
  throw shapeError(
    'gradients',
    'seed has another shape than the loss',
    printType(seed.type),
    printType(loss.type),
    'give one number for each of loss',
  );
}

function checkGradient(node: Node, input: Value, gradient: Value): void {
  if (gradient.type.dtype === 'f32' && sameShape(gradient.type.shape, input.type.shape)) return;
  throw userError({
    code: 'gradient-shape',
    op: node.op.name,
    problem: `the gradient rule of ${node.outputs[0].name} gives a wrong gradient for ${input.name}`,
    got: printType(gradient.type),
    expected: `f32${printShape(input.type.shape)}`,
    fix: 'correct the rule',
  });
}

function missingRule({ op, outputs }: Node): SubbyteError {
  return userError({
    code: 'gradient-missing',
    op: op.name,
    problem: `no gradient is defined through ${outputs[0].name}`,
    fix: op.noGradient ?? 'pass a rule for it, or stopGradient() on its input',
  });
}
