// Elementwise gradients, rounding to trained grids, optimizer steps.

import { userError } from '../../../errors.ts';
import { integerUnit } from '../../../formats/element.ts';
import type { QuantSpec } from '../../../formats/format.ts';
import { formatName } from '../../../formats/registry.ts';
import { isInt, isMinifloat, minifloats } from '../../../formats/table.ts';
import type { Node } from '../../../graph/graph.ts';
import { type DgeAttributes, edgeSlack, roundingLevels } from '../../../graph/ops/dge.ts';
import type { FakeQuantizeAttributes } from '../../../graph/ops/fake-quantize.ts';
import type { AdamWAttributes, MomentumAttributes, SgdAttributes } from '../../../graph/ops/optimizers.ts';
import type { RoundStateAttributes } from '../../../graph/ops/round-state.ts';
import { type UnaryAttributes, unaryKinds } from '../../../graph/ops/unary.ts';
import { elementCount, type Shape } from '../../../tensor/shape.ts';
import { broadcastStrides, mergeDimensions, strides } from '../../dimensions.ts';
import { dense, type EncodeContext, f32, type OpEncoder, rowsAndColumns, type Word } from '../encoder.ts';
import {
  adamwKernel,
  dgeBackwardKernel,
  fakeQuantizeBackwardKernel,
  fakeQuantizeKernel,
  roundToBf16Kernel,
  selectBitsKernel,
  sgdKernel,
  sgdMomentumKernel,
  swigluBackwardKernel,
  targetMaskKernel,
  unaryBackwardKernel,
} from '../kernel-ids.ts';
import { sourceWords } from '../matmul-source.ts';
import { arithmeticCommand } from './elementwise.ts';
import { f64Words } from './words.ts';

/** Addresses of all inputs, then of all outputs. */
const addresses = ({ inputs, outputs }: EncodeContext) =>
  [...inputs.map((_, i) => dense(inputs, i)), ...outputs.map((_, i) => dense(outputs, i))].map((o) => o.address);

export const unaryBackwardEncoder: OpEncoder = {
  encode(context) {
    const { kind } = context.node.attributes as unknown as UnaryAttributes;
    const count = elementCount(context.inputs[0].shape);
    return [{ kernel: unaryBackwardKernel, args: [unaryKinds.indexOf(kind), ...addresses(context), count] }];
  },
};

export const swigluBackwardEncoder: OpEncoder = {
  encode: (context) => [
    { kernel: swigluBackwardKernel, args: [...addresses(context), elementCount(context.inputs[0].shape)] },
  ],
};

export const targetMaskEncoder: OpEncoder = {
  encode: (context) => [
    { kernel: targetMaskKernel, args: [...addresses(context), elementCount(context.inputs[0].shape)] },
  ],
};

function gridWords({ low, high, shift, edge, epsilon }: FakeQuantizeAttributes, x: Shape, step: Shape): Word[] {
  const dims = mergeDimensions(x, [strides(x), broadcastStrides(step, x)]);
  return [...[low, high, shift, edge, epsilon].flatMap(f64Words), dims.length, ...dims.flat()];
}

const onGrid = (kernel: number): OpEncoder => ({
  encode(context) {
    const [x, step] = context.inputs;
    const words = gridWords(context.node.attributes as unknown as FakeQuantizeAttributes, x.shape, step.shape);
    return [{ kernel, args: [...addresses(context), ...words] }];
  },
});

export const fakeQuantizeEncoder = onGrid(fakeQuantizeKernel);
export const fakeQuantizeBackwardEncoder = onGrid(fakeQuantizeBackwardKernel);

/** Spacing of the levels, for kernels/engine/dge.ts: mask of the exponent, smallest normal number or unit, 2^−m or 1. */
function spacingWords(spec: QuantSpec, node: Node): Word[] {
  if (isInt(spec.element)) return [0, f32(integerUnit(spec)), f32(1)];
  if (!isMinifloat(spec.element))
    throw userError({
      code: 'missing-kernel',
      op: 'dgeBackward',
      problem: `the wasm backend has no kernel for this format (${node.outputs[0].name})`,
      got: formatName(spec),
      fix: 'choose integers or minifloats, or run the graph on the reference backend',
    });
  const { bias, mantissaBits } = minifloats[spec.element];
  return [0x7f800000, f32(2 ** (1 - bias)), f32(2 ** -mantissaBits)];
}

export const dgeBackwardEncoder: OpEncoder = {
  encode({ node, inputs, outputs }) {
    const { k, cap } = node.attributes as unknown as DgeAttributes;
    const [x, y, dy, dx] = [dense(inputs, 0), inputs[1], dense(inputs, 2), dense(outputs, 0)];
    if (y.dtype !== 'packed' || y.format.kind !== 'quant') throw new Error('encoder: dgeBackward without levels');
    const levels = roundingLevels(y.format);
    const edges = [levels[0], levels[levels.length - 1]].map((level) => level * (1 + edgeSlack));
    const words = [
      ...[x.address, dy.address, dx.address, ...rowsAndColumns(x.shape), ...spacingWords(y.format, node)],
      ...[f32(cap), 0, ...[1 / k - 1, 1 / k, ...edges].flatMap(f64Words)],
    ];
    return [{ kernel: dgeBackwardKernel, args: [...words, ...sourceWords(y, true)] }];
  },
};

/** Addresses of states, gradient and numbers (the outputs are the states), then the number of weights. */
const stateWords = ({ inputs }: EncodeContext): Word[] => [
  ...inputs.map((_, i) => dense(inputs, i).address),
  elementCount(inputs[0].shape),
];

export const sgdEncoder: OpEncoder = {
  encode(context) {
    const { weightDecay } = context.node.attributes as unknown as SgdAttributes;
    return [{ kernel: sgdKernel, args: [...stateWords(context), f32(weightDecay)] }];
  },
};

export const sgdMomentumEncoder: OpEncoder = {
  encode(context) {
    const { weightDecay, momentum, nesterov } = context.node.attributes as unknown as MomentumAttributes;
    const words = [...stateWords(context), f32(weightDecay), f32(momentum), nesterov ? 1 : 0];
    return [{ kernel: sgdMomentumKernel, args: words }];
  },
};

/** A gradient with a factor is multiplied into scratch memory first. */
export const adamwEncoder: OpEncoder = {
  scratchBytes: ({ inputs }) => (inputs.length > 6 ? 4 * elementCount(inputs[0].type.shape) : 0),
  encode({ node, inputs, scratch }) {
    const { beta1, beta2, epsilon, weightDecay } = node.attributes as unknown as AdamWAttributes;
    const constants = [beta1, beta2, epsilon, weightDecay].flatMap(f64Words);
    const [weight, first, second, gradient, rate, step, factor] = inputs.map((_, i) => dense(inputs, i));
    const count = elementCount(weight.shape);
    const scaled = { shape: weight.shape, address: factor ? scratch : gradient.address };
    const states = [weight, first, second].map(({ address }) => address);
    const update = {
      kernel: adamwKernel,
      args: [...states, scaled.address, rate.address, step.address, count, 0, ...constants],
    };
    return factor ? [arithmeticCommand('mul', gradient, factor, scaled), update] : [update];
  },
};

export const roundToBf16Encoder: OpEncoder = {
  encode(context) {
    const { seed, stream } = context.node.attributes as unknown as RoundStateAttributes;
    return [{ kernel: roundToBf16Kernel, args: [...stateWords(context), seed, stream] }];
  },
};

export const selectBitsEncoder: OpEncoder = {
  encode: (context) => [
    { kernel: selectBitsKernel, args: [...addresses(context), elementCount(context.inputs[0].shape)] },
  ],
};
