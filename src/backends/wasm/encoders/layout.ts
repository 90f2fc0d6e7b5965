// Ops that move data: reshape, transpose, slice, concat, pad, broadcastTo, embedding, dequantize.

import type {
  ConcatAttributes,
  PadAttributes,
  SliceAttributes,
  TransposeAttributes,
} from '../../../graph/ops/layout.ts';
import { elementCount } from '../../../tensor/shape.ts';
import { broadcastStrides, mergeDimensions, strides } from '../../dimensions.ts';
import { type Command, dense, type OpEncoder, type Operand } from '../encoder.ts';
import { copyStridedKernel, embeddingKernel, fillKernel } from '../kernel-ids.ts';
import { decodeCommand } from '../matmul.ts';
import { sourceWords, valuesAddress } from '../matmul-source.ts';

function copy(from: number, to: number, shape: readonly number[], layouts: readonly number[][]): Command {
  const dims = mergeDimensions(shape, layouts);
  return { kernel: copyStridedKernel, args: [from, to, dims.length, ...dims.flat()] };
}

/** Stored as f32: dense, or packed under the name f32. */
const isPlain = (operand: Operand) =>
  operand.dtype !== 'packed' || (operand.format.kind === 'float' && operand.format.name === 'f32');

/** The output is the input's memory: nothing to run. */
export const reshapeEncoder: OpEncoder = { encode: () => [] };

export const transposeEncoder: OpEncoder = {
  encode({ node, inputs, outputs }) {
    const { permutation } = node.attributes as unknown as TransposeAttributes;
    const [x, y] = [dense(inputs, 0), dense(outputs, 0)];
    const from = strides(x.shape);
    return [copy(x.address, y.address, y.shape, [permutation.map((d) => from[d]), strides(y.shape)])];
  },
};

export const sliceEncoder: OpEncoder = {
  encode({ node, inputs, outputs }) {
    const { axis, start } = node.attributes as unknown as SliceAttributes;
    const [x, y] = [dense(inputs, 0), dense(outputs, 0)];
    const from = strides(x.shape);
    return [copy(x.address + 4 * start * from[axis], y.address, y.shape, [from, strides(y.shape)])];
  },
};

export const concatEncoder: OpEncoder = {
  encode({ node, inputs, outputs }) {
    const { axis } = node.attributes as unknown as ConcatAttributes;
    const y = dense(outputs, 0);
    const to = strides(y.shape);
    let at = y.address;
    return inputs.map((_, i) => {
      const x = dense(inputs, i);
      const command = copy(x.address, at, x.shape, [strides(x.shape), to]);
      at += 4 * to[axis] * x.shape[axis];
      return command;
    });
  },
};

export const padEncoder: OpEncoder = {
  encode({ node, inputs, outputs }) {
    const { axis, before } = node.attributes as unknown as PadAttributes;
    const [x, y] = [dense(inputs, 0), dense(outputs, 0)];
    const to = strides(y.shape);
    return [
      { kernel: fillKernel, args: [y.address, elementCount(y.shape), 0] },
      copy(x.address, y.address + 4 * before * to[axis], x.shape, [strides(x.shape), to]),
    ];
  },
};

export const broadcastToEncoder: OpEncoder = {
  encode({ inputs, outputs }) {
    const [x, y] = [dense(inputs, 0), dense(outputs, 0)];
    return [copy(x.address, y.address, y.shape, [broadcastStrides(x.shape, y.shape), strides(y.shape)])];
  },
};

export const embeddingEncoder: OpEncoder = {
  encode({ inputs, outputs }) {
    const [table, ids, y] = [inputs[0], dense(inputs, 1), dense(outputs, 0)];
    const [V, C] = table.shape;
    const address = isPlain(table) ? valuesAddress(table) : 0;
    const words = [address, ids.address, y.address, elementCount(ids.shape), V, C];
    return [{ kernel: embeddingKernel, args: address ? words : [...words, ...sourceWords(table, true)] }];
  },
};

export const dequantizeEncoder: OpEncoder = {
  encode({ inputs, outputs }) {
    const [x] = inputs;
    if (x.dtype !== 'packed') throw new Error('encoder: dequantize of a dense value');
    const y = dense(outputs, 0);
    if (isPlain(x)) return [copy(x.codes, y.address, y.shape, [strides(y.shape), strides(y.shape)])];
    return [decodeCommand(x, y.address)];
  },
};
