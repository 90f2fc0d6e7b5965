// Gradient rules that a caller puts in place of an op's own: what training with quantization in the graph needs.
//
//   straightThrough   dx = dy                                                   (Bengio et al. 2013, arXiv:1308.3432)
//   clipMasked        dx = dy · 1[|x| ≤ bound]
//   lsq               learned step size with its gradient scale 1/√(N·Q_P)      (Esser et al. 2020, arXiv:1902.08153)
//   onIncoming        any rule, after a change of the incoming gradient
//
// A rule holds for one node (withGradient) or for all nodes of an op (the options of gradients()).

import { userError } from '../errors.ts';
import type { Format } from '../formats/format.ts';
import { elementCount } from '../tensor/shape.ts';
import type { GradientRule, Value } from './graph.ts';
import { affine } from './ops/affine.ts';
import { type FakeQuantizeAttributes, fakeQuantizeBackward } from './ops/fake-quantize.ts';
import { concat, reshape } from './ops/layout.ts';
import type { QuantizeAttributes } from './ops/quantize.ts';
import { max, sumTo } from './ops/reduce.ts';
import { negate } from './ops/unary.ts';

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

/** The first input gets the output's gradient, as if the op were the identity; other inputs get none. */
export const straightThrough: GradientRule = (_, [g]) => [g];

/**
 * For quantize: straight through where |x| ≤ bound, zero where the format clips.
 *
 * `bound` broadcasts to x. Without it, it follows from the format: clip × the largest magnitude of the group, row or
 * tensor that shares a scale; a format that does not clip gets every gradient. Throws a SubbyteError, when the graph is
 * differentiated, for formats whose range is not of this kind (tiles, ggml blocks).
 */
export function clipMasked(bound?: Value): GradientRule {
  return ({ inputs: [x], attributes }, [g]) => {
    if (!g) return [];
    const grid = { low: -1, high: 1, epsilon: Number.MIN_VALUE };
    if (bound) return [fakeQuantizeBackward(x, bound, g, grid)[0]];
    const range = clipRange(x, (attributes as Partial<QuantizeAttributes>).format);
    if (!range) return [g];
    const blocks = (v: Value) => reshape(v, range.blocks);
    return [reshape(fakeQuantizeBackward(blocks(x), range.bound, blocks(g), grid)[0], x.type.shape)];
  };
}

/** The bound of each run of values that share a scale, for x seen as `blocks`; undefined: nothing is clipped. */
function clipRange(x: Value, format: Format | undefined): { blocks: readonly number[]; bound: Value } | undefined {
  if (format?.kind === 'float' || (format?.kind === 'quant' && format.clip === 1)) return undefined;
  if (format?.kind !== 'quant' || format.granularity.kind === 'tile')
    throw userError({
      code: 'gradient-clip',
      op: 'clipMasked',
      problem: `the range of ${x.name} does not follow from a group, row or tensor`,
      fix: 'pass the bound',
    });
  const { shape } = x.type;
  const { granularity, clip } = format;
  const runs = { tensor: elementCount(shape), channel: shape.at(-1) ?? 1, token: shape.at(-1) ?? 1 };
  const run = granularity.kind === 'group' ? granularity.size : runs[granularity.kind];
  const blocks = [elementCount(shape) / run, run];
  const values = reshape(x, blocks);
  const largest = (v: Value) => max(v, { axes: [1], keepDims: true });
  const magnitude = largest(concat([largest(values), largest(negate(values))], 1));
  return { blocks, bound: affine(magnitude, { scale: clip }) };
}

export interface LsqOptions {
  /** N of the gradient scale; elements of x for each step when absent. Some implementations take all of x. */
  gradientScaleElements?: number;
}

/**
 * For fakeQuantize: its own rule with the step's gradient multiplied by 1/√(N·Q_P), Q_P the highest level. It keeps the
 * relative size of the step's updates near that of the weights' under SGD.
 *
 * @example withGradient(fakeQuantize(w, step, { low: -8, high: 7 }), lsq())
 */
export function lsq({ gradientScaleElements }: LsqOptions = {}): GradientRule {
  return ({ inputs: [x, step], attributes }, [g]) => {
    if (!g) return [];
    const grid = attributes as unknown as FakeQuantizeAttributes;
    const [dx, shares] = fakeQuantizeBackward(x, step, g, grid);
    const elements = gradientScaleElements ?? elementCount(x.type.shape) / elementCount(step.type.shape);
    const scale = 1 / Math.sqrt(elements * Math.max(grid.high, 1));
    return [dx, affine(sumTo(shares, step.type.shape), { scale })];
  };
}

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
