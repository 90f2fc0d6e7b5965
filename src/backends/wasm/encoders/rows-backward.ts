// Gradients over rows: softmax, norms, maxima, look-ups.

import type { NormAttributes } from '../../../graph/ops/norm.ts';
import type { TopKBackwardAttributes } from '../../../graph/ops/top-k.ts';
import { elementCount } from '../../../tensor/shape.ts';
import { roles } from '../../dimensions.ts';
import { alignedBytes } from '../allocator.ts';
import { dense, f32, type OpEncoder, rowsAndColumns } from '../encoder.ts';
import {
  addBlocksKernel,
  embeddingBackwardKernel,
  expertSortKernel,
  maxBackwardKernel,
  normBackwardKernel,
  softmaxBackwardKernel,
  topKBackwardKernel,
} from '../kernel-ids.ts';

export const softmaxBackwardEncoder: OpEncoder = {
  encode({ inputs, outputs }) {
    const [y, dy, dx] = [dense(inputs, 0), dense(inputs, 1), dense(outputs, 0)];
    return [{ kernel: softmaxBackwardKernel, args: [y.address, dy.address, dx.address, ...rowsAndColumns(y.shape)] }];
  },
};

/** Rows whose sums are gathered together: kernels/engine/norm-backward.ts. */
const blockRows = 32;

const normBackward = (centered: boolean): OpEncoder => ({
  scratchBytes(node) {
    const [rows, columns] = rowsAndColumns(node.inputs[0].type.shape);
    return alignedBytes(8 * Math.ceil(rows / blockRows) * columns * (centered ? 2 : 1));
  },
  encode({ node, inputs, outputs, scratch }) {
    const { epsilon } = node.attributes as unknown as NormAttributes;
    const [x, weight, dy, dx] = [dense(inputs, 0), dense(inputs, 1), dense(inputs, 2), dense(outputs, 0)];
    const [rows, columns] = rowsAndColumns(x.shape);
    const addresses = [x, weight, dy, dx].map((operand) => operand.address);
    const vectors = outputs.slice(1).map((_, i) => dense(outputs, i + 1).address);
    const blocks = Math.ceil(rows / blockRows);
    const words = [centered ? 1 : 0, ...addresses, scratch, rows, columns, f32(epsilon)];
    return [
      { kernel: normBackwardKernel, args: words },
      ...vectors.map((out, i) => ({
        kernel: addBlocksKernel,
        args: [scratch + 8 * i * columns, blocks, columns, out, vectors.length * columns],
      })),
    ];
  },
});

export const rmsNormBackwardEncoder = normBackward(false);
export const layerNormBackwardEncoder = normBackward(true);

export const maxBackwardEncoder: OpEncoder = {
  encode({ inputs, outputs }) {
    const [x, y, dy, dx] = [dense(inputs, 0), dense(inputs, 1), dense(inputs, 2), dense(outputs, 0)];
    const axes = x.shape.flatMap((d, i) => (y.shape[i] === d && d !== 1 ? [] : [i]));
    const dims = roles(x.shape, axes);
    const run = dims.at(-1)?.reduced ? dims.pop()!.size : 1;
    const kept = dims.filter((d) => !d.reduced);
    const reduced = dims.filter((d) => d.reduced);
    const words = [
      ...[x.address, y.address, dy.address, dx.address, elementCount(y.shape), run],
      ...[elementCount(reduced.map((d) => d.size)), kept.length, reduced.length],
      ...[...kept, ...reduced].flatMap((d) => [d.size, d.stride]),
    ];
    return [{ kernel: maxBackwardKernel, args: words }];
  },
};

export const embeddingBackwardEncoder: OpEncoder = {
  scratchBytes: ({ inputs: [ids], outputs: [table] }) =>
    alignedBytes(4 * (table.type.shape[0] + 1 + elementCount(ids.type.shape))),
  encode({ inputs, outputs, scratch }) {
    const [ids, dy, table] = [dense(inputs, 0), dense(inputs, 1), dense(outputs, 0)];
    const [V, C] = table.shape;
    return [
      { kernel: expertSortKernel, args: [ids.address, elementCount(ids.shape), V, scratch] },
      { kernel: embeddingBackwardKernel, args: [scratch, dy.address, table.address, V, C] },
    ];
  },
};

export const topKBackwardEncoder: OpEncoder = {
  encode({ node, inputs, outputs }) {
    const { entries } = node.attributes as unknown as TopKBackwardAttributes;
    const [indices, dvalues, dx] = [dense(inputs, 0), dense(inputs, 1), dense(outputs, 0)];
    const [N, k] = indices.shape;
    return [{ kernel: topKBackwardKernel, args: [indices.address, dvalues.address, dx.address, N, k, entries] }];
  },
};
