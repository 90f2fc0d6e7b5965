// Rows cut at their quantiles, and products with sparse rows (kernels/engine/outliers.ts).

import type { Node } from '../../../graph/graph.ts';
import { outlierPlaces, type SplitOutliersAttributes } from '../../../graph/ops/outliers.ts';
import { elementCount } from '../../../tensor/shape.ts';
import { alignedBytes } from '../allocator.ts';
import { dense, type OpEncoder, rowsAndColumns } from '../encoder.ts';
import { sparseMatmulKernel, splitOutliersKernel, spreadSparseKernel } from '../kernel-ids.ts';

function placesOf({ inputs: [x], attributes }: Node) {
  const K = x.type.shape[x.type.shape.length - 1];
  const { low, high, most } = outlierPlaces(K, (attributes as unknown as SplitOutliersAttributes).quantile);
  const [smallest, largest] = [low + 1, K - high];
  return { smallest, largest, most, listBytes: alignedBytes(4 * Math.max(smallest, largest)) };
}

export const splitOutliersEncoder: OpEncoder = {
  scratchBytes: (node, threads) => threads * placesOf(node).listBytes,
  encode({ node, inputs, outputs, scratch }) {
    const { smallest, largest, most, listBytes } = placesOf(node);
    const x = dense(inputs, 0);
    const to = outputs.map((_, i) => dense(outputs, i).address);
    const sizes = [...rowsAndColumns(x.shape), smallest, largest, most];
    return [{ kernel: splitOutliersKernel, args: [x.address, ...to, ...sizes, scratch, listBytes] }];
  },
};

export const sparseMatmulEncoder: OpEncoder = {
  encode({ inputs, outputs }) {
    const [values, columns, table, y] = [...[0, 1, 2].map((i) => dense(inputs, i)), dense(outputs, 0)];
    const addresses = [values, columns, table, y].map(({ address }) => address);
    return [{ kernel: sparseMatmulKernel, args: [...addresses, ...values.shape, ...table.shape] }];
  },
};

export const spreadSparseEncoder: OpEncoder = {
  encode({ inputs, outputs }) {
    const [values, columns, y] = [dense(inputs, 0), dense(inputs, 1), dense(outputs, 0)];
    const [rows, S] = rowsAndColumns(values.shape);
    const K = elementCount(y.shape) / rows;
    return [{ kernel: spreadSparseKernel, args: [values.address, columns.address, y.address, rows, S, K] }];
  },
};
