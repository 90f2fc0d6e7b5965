// Matrix product, with either operand packed.
//
//   y[..., m, n] = Σ_k a[..., m, k] · b[..., k, n]
//
// A linear layer is matmul(x, weight [N, K], { transposeB: true }). b is either one matrix for all batches or has the
// batch dimensions of a. Packed values are stored along K, so a packed operand has K as its last dimension. A packed
// weight with a dense a is dequantized on the way; with both packed the meaning is the product of the dequantized
// values, which kernels compute from integers or exact products.

import { elementCount, printShape, type Shape, sameShape } from '../../tensor/shape.ts';
import { applyOp } from '../apply.ts';
import { denseOrPackedShape, shapeError } from '../check.ts';
import type { OpDefinition, Value } from '../graph.ts';
import { perInput } from '../rule.ts';
import { f32 } from '../value-type.ts';
import { reshape, transpose } from './layout.ts';
import { dequantize } from './quantize.ts';

export interface MatmulAttributes {
  /** a is [..., K, M]. */
  transposeA: boolean;
  /** b is [..., N, K]. */
  transposeB: boolean;
}

export interface MatmulDimensions {
  /** Leading dimensions of a. */
  batch: Shape;
  /** b has batch dimensions too (those of a); otherwise one matrix serves all. */
  batchedB: boolean;
  M: number;
  N: number;
  K: number;
}

/** Reads M, N, K and the batch dimensions off two operand shapes. */
export function matmulDimensions(a: Shape, b: Shape, { transposeA, transposeB }: MatmulAttributes): MatmulDimensions {
  const [a0, a1] = a.slice(-2);
  const [b0, b1] = b.slice(-2);
  return {
    batch: a.slice(0, -2),
    batchedB: b.length > 2,
    M: transposeA ? a1 : a0,
    N: transposeB ? b0 : b1,
    K: transposeA ? a0 : a1,
  };
}

export const matmulOp: OpDefinition<MatmulAttributes> = {
  name: 'matmul',
  infer([a, b], attributes) {
    const aShape = denseOrPackedShape('matmul', 'a', a, [2]);
    const bShape = denseOrPackedShape('matmul', 'b', b, [2]);
    const { batch, batchedB, M, N, K } = matmulDimensions(aShape, bShape, attributes);
    const both = `${printShape(aShape)} and ${printShape(bShape)}`;
    const otherK = attributes.transposeB ? bShape.at(-1) : bShape.at(-2);
    if (otherK !== K)
      throw shapeError(
        'matmul',
        'the operands differ in K',
        `${both} (K ${K} and ${otherK})`,
        'one K',
        'check transposeA and transposeB',
      );
    if (batchedB && !sameShape(batch, bShape.slice(0, -2)))
      throw shapeError(
        'matmul',
        'batch dimensions differ',
        both,
        'b without batch dimensions or those of a',
        'reshape b',
      );
    if (a.dtype === 'packed' && attributes.transposeA)
      throw shapeError(
        'matmul',
        'packed a must have K last',
        printShape(aShape),
        '[..., M, K]',
        'leave out transposeA',
      );
    if (b.dtype === 'packed' && !attributes.transposeB)
      throw shapeError(
        'matmul',
        'packed b must have K last',
        printShape(bShape),
        '[..., N, K]',
        'set transposeB: true',
      );
    return [f32([...batch, M, N])];
  },
  flops([a, b], attributes) {
    const { batch, M, N, K } = matmulDimensions(a.shape, b.shape, attributes);
    return 2 * elementCount(batch) * M * N * K;
  },
  gradient: perInput(({ inputs: [a, b], attributes }, g) => [
    () => gradientOfA(b, g, attributes),
    () => gradientOfB(a, b, g, attributes),
  ]),
};

/** dA = dY · Bᵀ, or its transpose where a is [..., K, M]. A packed b is dequantized, since N is not its last axis. */
function gradientOfA(b: Value, g: Value, { transposeA, transposeB }: MatmulAttributes): Value {
  const product = matmul(g, dense(b), { transposeB: !transposeB });
  return transposeA ? swapLast(product) : product;
}

/** dB = Aᵀ · dY, or its transpose dYᵀ · A; where one b serves all batches, their rows are one long product. */
function gradientOfB(a: Value, b: Value, g: Value, { transposeA, transposeB }: MatmulAttributes): Value {
  const shared = b.type.shape.length === 2 && g.type.shape.length > 2;
  const rows = (v: Value) => reshape(v, [-1, v.type.shape[v.type.shape.length - 1]]);
  const left = shared ? rows(transposeA ? swapLast(dense(a)) : dense(a)) : dense(a);
  const right = shared ? rows(g) : g;
  const leftIsK = transposeA && !shared; // left is [..., K, M], else [..., M, K]
  return transposeB
    ? matmul(right, left, { transposeA: true, transposeB: leftIsK })
    : matmul(left, right, { transposeA: !leftIsK });
}

const dense = (v: Value) => (v.type.dtype === 'packed' ? dequantize(v) : v);

function swapLast(v: Value): Value {
  const axes = [...v.type.shape.keys()];
  return transpose(v, [...axes.slice(0, -2), axes.length - 1, axes.length - 2]);
}

/** a [..., M, K] × b [K, N] or [..., K, N] → [..., M, N]; transposed operands as the options say. */
export function matmul(
  a: Value,
  b: Value,
  { transposeA = false, transposeB = false }: Partial<MatmulAttributes> = {},
): Value {
  return applyOp(matmulOp, [a, b], { transposeA, transposeB })[0];
}
