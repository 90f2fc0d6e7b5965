// A matmul node as products of matrices, and whether packed operands multiply as integers.

import type { Node } from '../graph/graph.ts';
import { type MatmulAttributes, matmulDimensions } from '../graph/ops/matmul.ts';
import { elementCount } from '../tensor/shape.ts';
import { type IntegerPlan, integerPlan } from './integer-plan.ts';

/** Rows and columns of one product, and how many products there are, one after the other. */
export interface Product {
  readonly M: number;
  readonly N: number;
  readonly K: number;
  readonly batch: number;
  /** b has a matrix for each of them. */
  readonly batchedB: boolean;
}

/** One b for all batches is one product with more rows, unless a is stored [K, M]. */
export function productOf(node: Node): Product {
  const attributes = node.attributes as unknown as MatmulAttributes;
  const [a, b] = node.inputs;
  const { batch, batchedB, M, N, K } = matmulDimensions(a.type.shape, b.type.shape, attributes);
  const count = elementCount(batch);
  if (batchedB || attributes.transposeA) return { M, N, K, batch: count, batchedB };
  return { M: M * count, N, K, batch: 1, batchedB };
}

/** How the product of a node runs on integers; undefined where it does not. */
export function integerProductPlan(node: Node, { M, N, K, batch, batchedB }: Product): IntegerPlan | undefined {
  const [a, b] = node.inputs.map(({ type }) => type);
  if (a.dtype !== 'packed' || b.dtype !== 'packed') return undefined;
  return integerPlan(a.format, M * batch, b.format, batchedB ? N * batch : N, K);
}
