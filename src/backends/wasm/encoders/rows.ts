// Ops over the last axis or over any axes: reductions, softmax, norms, topK, hadamard.

import type { HadamardAttributes } from '../../../graph/ops/hadamard.ts';
import type { NormAttributes } from '../../../graph/ops/norm.ts';
import type { ReduceAttributes } from '../../../graph/ops/reduce.ts';
import type { TopKAttributes } from '../../../graph/ops/top-k.ts';
import { elementCount } from '../../../tensor/shape.ts';
import { roles } from '../../dimensions.ts';
import { type Command, type DenseOperand, dense, f32, type OpEncoder, rowsAndColumns } from '../encoder.ts';
import {
  argmaxKernel,
  hadamardKernel,
  layerNormKernel,
  reduceKernel,
  rmsNormKernel,
  softmaxKernel,
  topKKernel,
} from '../kernel-ids.ts';

type Place = Pick<DenseOperand, 'shape' | 'address'>;

/** y = x reduced over some axes. */
export function reduceCommand(x: Place, y: Place, { kind, axes }: Pick<ReduceAttributes, 'kind' | 'axes'>): Command {
  const dims = roles(x.shape, axes);
  const inner = dims.pop()!;
  const kept = dims.filter((d) => !d.reduced);
  const reduced = dims.filter((d) => d.reduced);
  const count = elementCount(x.shape) / elementCount(y.shape);
  const args = [
    ...[kind === 'max' ? 1 : 0, x.address, y.address, elementCount(y.shape), kind === 'mean' ? count : 1],
    ...[inner.size, inner.reduced ? 1 : 0, kept.length, reduced.length, elementCount(reduced.map((d) => d.size))],
    ...[...kept, ...reduced].flatMap((d) => [d.size, d.stride]),
  ];
  return { kernel: reduceKernel, args };
}

export const reduceEncoder: OpEncoder = {
  encode: ({ node, inputs, outputs }) => [
    reduceCommand(dense(inputs, 0), dense(outputs, 0), node.attributes as unknown as ReduceAttributes),
  ],
};

const overRows = (kernel: number): OpEncoder => ({
  encode({ inputs, outputs }) {
    const [x, y] = [dense(inputs, 0), dense(outputs, 0)];
    return [{ kernel, args: [x.address, y.address, ...rowsAndColumns(x.shape)] }];
  },
});

export const argmaxEncoder = overRows(argmaxKernel);
export const softmaxEncoder = overRows(softmaxKernel);

const norm = (kernel: number): OpEncoder => ({
  encode({ node, inputs, outputs }) {
    const { epsilon } = node.attributes as unknown as NormAttributes;
    const operands = inputs.map((_, i) => dense(inputs, i));
    const addresses = [...operands, dense(outputs, 0)].map((operand) => operand.address);
    return [{ kernel, args: [...addresses, ...rowsAndColumns(operands[0].shape), f32(epsilon)] }];
  },
});

export const rmsNormEncoder = norm(rmsNormKernel);
export const layerNormEncoder = norm(layerNormKernel);

export const topKEncoder: OpEncoder = {
  encode({ node, inputs, outputs }) {
    const { k } = node.attributes as unknown as TopKAttributes;
    const [x, values, indices] = [dense(inputs, 0), dense(outputs, 0), dense(outputs, 1)];
    return [{ kernel: topKKernel, args: [x.address, values.address, indices.address, ...rowsAndColumns(x.shape), k] }];
  },
};

export const hadamardEncoder: OpEncoder = {
  encode({ node, inputs, outputs }) {
    const { blockSize } = node.attributes as unknown as HadamardAttributes;
    const [x, y] = [dense(inputs, 0), dense(outputs, 0)];
    const signs = inputs.length > 1 ? dense(inputs, 1).address : 0;
    const blocks = elementCount(x.shape) / blockSize;
    const args = [x.address, signs, y.address, blocks, blockSize, f32(1 / Math.sqrt(blockSize))];
    return [{ kernel: hadamardKernel, args }];
  },
};
