// Elementwise ops: unary, affine, swiglu and arithmetic with broadcasting.

import type { AffineAttributes } from '../../../graph/ops/affine.ts';
import type { ArithmeticName } from '../../../graph/ops/arithmetic.ts';
import { type UnaryAttributes, unaryKinds } from '../../../graph/ops/unary.ts';
import { elementCount } from '../../../tensor/shape.ts';
import { broadcastStrides, mergeDimensions } from '../../dimensions.ts';
import { type Command, type DenseOperand, dense, f32, type OpEncoder } from '../encoder.ts';
import { affineKernel, arithmeticKernel, swigluKernel, unaryKernel } from '../kernel-ids.ts';

export const unaryEncoder: OpEncoder = {
  encode({ node, inputs, outputs }) {
    const { kind } = node.attributes as unknown as UnaryAttributes;
    const [x, y] = [dense(inputs, 0), dense(outputs, 0)];
    return [{ kernel: unaryKernel, args: [unaryKinds.indexOf(kind), x.address, y.address, elementCount(x.shape)] }];
  },
};

export const affineEncoder: OpEncoder = {
  encode({ node, inputs, outputs }) {
    const { scale, offset } = node.attributes as unknown as AffineAttributes;
    const [x, y] = [dense(inputs, 0), dense(outputs, 0)];
    return [{ kernel: affineKernel, args: [x.address, y.address, elementCount(x.shape), f32(scale), f32(offset)] }];
  },
};

export const swigluEncoder: OpEncoder = {
  scratchBytes: (_, threads) => 64 * threads,
  encode({ inputs, outputs, scratch }) {
    const [gate, up, y] = [dense(inputs, 0), dense(inputs, 1), dense(outputs, 0)];
    return [{ kernel: swigluKernel, args: [gate.address, up.address, y.address, elementCount(y.shape), scratch] }];
  },
};

const kinds: Readonly<Record<ArithmeticName, number>> = { add: 0, sub: 1, mul: 2, div: 3 };

type Place = Pick<DenseOperand, 'shape' | 'address'>;

/** y = a op b with broadcasting. */
export function arithmeticCommand(name: ArithmeticName, a: Place, b: Place, y: Place): Command {
  const layouts = [broadcastStrides(a.shape, y.shape), broadcastStrides(b.shape, y.shape)];
  const dims = mergeDimensions(y.shape, layouts);
  return {
    kernel: arithmeticKernel,
    args: [kinds[name], a.address, b.address, y.address, dims.length, ...dims.flat()],
  };
}

export const arithmeticEncoder: OpEncoder = {
  encode: ({ node, inputs, outputs }) => [
    arithmeticCommand(node.op.name as ArithmeticName, dense(inputs, 0), dense(inputs, 1), dense(outputs, 0)),
  ],
};
