// Online rotations: the input of a layer times an orthonormal Hadamard matrix while the model runs.
//
// Problem: a rotated input has no outliers and quantizes well; the layer's weight was multiplied by the same matrix
// beforehand, (x · R) · (W · R)ᵀ = x · Wᵀ. Where the rotation cannot be merged into the layer before (a non-linear
// function stands between), it has to be done at run time.
// Method: R is block diagonal, one block D · H / √n for each run of n = size elements, with random signs D where the
// rotation has a seed. H is that of tensor/hadamard.ts, n = B · 2^m: butterflies over runs of 2^m (op hadamard), then a
// product with the B×B base matrix. With a stride s the n elements of a block stand s apart (QuaRot's Hadamard across
// heads: size H, stride D).
// Source: QuaRot (arXiv:2404.00456, section 3.2); MR-GPTQ (arXiv:2509.23202) for small blocks.

import { appendConstant } from '../graph/apply.ts';
import { shapeError } from '../graph/check.ts';
import type { Graph, Value } from '../graph/graph.ts';
import { mul } from '../graph/ops/arithmetic.ts';
import { hadamard } from '../graph/ops/hadamard.ts';
import { reshape, transpose } from '../graph/ops/layout.ts';
import { matmul } from '../graph/ops/matmul.ts';
import { hadamardOrder, randomSigns } from '../tensor/hadamard.ts';
import { baseHadamard } from '../tensor/hadamard-base.ts';
import { printShape } from '../tensor/shape.ts';
import { type Tensor, tensorF32 } from '../tensor/tensor.ts';

export interface Rotation {
  /** n, the order of the Hadamard matrix of one block. */
  readonly size: number;
  /** Distance of the elements of one block; 1 when absent. */
  readonly stride?: number;
  /** Key of the random signs that are applied first; none when absent. */
  readonly seed?: number;
}

/**
 * x [..., K] → [..., K]; K is a multiple of size · stride. Asking for the same rotation of the same x again (q, k and v
 * share their input) gives the same value.
 *
 * Throws a SubbyteError when size · stride does not divide K or there is no Hadamard matrix of that size.
 *
 * @example rotateInput(x, { size: 11008 })
 */
export function rotateInput(x: Value, rotation: Rotation): Value {
  const { size, stride = 1 } = rotation;
  const { shape } = x.type;
  const K = shape[shape.length - 1];
  if (!hadamardOrder(size) || !Number.isInteger(stride) || stride < 1 || K % (size * stride) !== 0)
    throw shapeError(
      'rotateInput',
      `the rotation does not fit ${printShape(shape)}`,
      `size ${size}, stride ${stride}`,
      `a size with a Hadamard matrix whose product with the stride divides ${K}`,
      'use the rotation that the weights were made with',
    );
  return once(rotated, x, JSON.stringify(rotation), () => {
    if (stride === 1) return rotateRuns(x, rotation);
    const blocks = transpose(reshape(x, [-1, size, stride]), [0, 2, 1]);
    return reshape(transpose(rotateRuns(blocks, rotation), [0, 2, 1]), shape);
  });
}

const rotated = new WeakMap<Value, Map<string, Value>>();

/** Every run of `size` elements along the last axis, in the shape of x. */
function rotateRuns(x: Value, { size, seed }: Rotation): Value {
  const { base, power } = hadamardOrder(size) as { base: number; power: number };
  const signs =
    seed === undefined
      ? undefined
      : constant(x.graph, `signs of ${size}, seed ${seed}`, () => tensorF32([size], randomSigns(size, seed)));
  if (base === 1) return hadamard(x, { blockSize: size, signs });
  const matrix = constant(x.graph, `Hadamard base ${base}`, () =>
    tensorF32(
      [base, base],
      Float32Array.from(baseHadamard(base), (v) => v / Math.sqrt(base)),
    ),
  );
  const runs = reshape(x, [-1, size]);
  const signed = signs ? mul(runs, signs) : runs;
  const product =
    power === 1
      ? matmul(signed, matrix)
      : matmul(hadamard(reshape(signed, [-1, base, power]), { blockSize: power }), matrix, { transposeA: true });
  return reshape(product, x.type.shape);
}

const constants = new WeakMap<Graph, Map<string, Value>>();

/** One constant a graph for all layers. */
const constant = (graph: Graph, name: string, make: () => Tensor): Value =>
  once(constants, graph, name, () => appendConstant(graph, make(), name));

/** What was made for an owner under a key before, or now. */
export function once<Owner extends object>(
  made: WeakMap<Owner, Map<string, Value>>,
  owner: Owner,
  key: string,
  make: () => Value,
): Value {
  const known = made.get(owner) ?? new Map<string, Value>();
  made.set(owner, known);
  const value = known.get(key) ?? make();
  known.set(key, value);
  return value;
}
