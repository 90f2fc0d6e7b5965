// Block Hadamard transform: each run of blockSize values is multiplied by the orthonormal Walsh-Hadamard matrix.
//
//   y = H · (signs ∘ x) / √n,  H[i, j] = (−1)^popcount(i AND j)  (Sylvester order, n = blockSize)
//
// With random signs this spreads outliers over the block (QuIP#, QuaRot). Without signs it is its own inverse.

import { elementCount, printShape } from '../../tensor/shape.ts';
import { applyOp } from '../apply.ts';
import { denseShape, expectShape, shapeError } from '../check.ts';
import type { OpDefinition, Value } from '../graph.ts';
import { perInput } from '../rule.ts';
import { f32 } from '../value-type.ts';
import { mul } from './arithmetic.ts';
import { reshape } from './layout.ts';
import { sumTo } from './reduce.ts';

export interface HadamardAttributes {
  blockSize: number;
}

/** Inputs x and, optionally, signs. */
export const hadamardOp: OpDefinition<HadamardAttributes> = {
  name: 'hadamard',
  infer([x, signs], { blockSize }) {
    const shape = denseShape('hadamard', 'x', x, [1]);
    const K = shape[shape.length - 1];
    if (!Number.isInteger(Math.log2(blockSize)) || blockSize < 1 || K % blockSize !== 0)
      throw shapeError(
        'hadamard',
        `blockSize does not fit ${printShape(shape)}`,
        `${blockSize}`,
        `a power of two that divides ${K}`,
        'choose a smaller block',
      );
    if (signs)
      expectShape(
        'hadamard',
        'signs',
        denseShape('hadamard', 'signs', signs),
        [blockSize],
        'give one sign for each position of a block',
      );
    return [f32(shape)];
  },
  flops: ([x], { blockSize }) => elementCount(x.shape) * (Math.log2(blockSize) + 1),
  // H is symmetric: dx = signs ∘ H dy, dsigns = Σ over blocks of x ∘ H dy.
  gradient: perInput(({ inputs: [x, signs], attributes: { blockSize } }, g) => {
    const blocks = (v: Value) => reshape(v, [-1, blockSize]);
    const back = hadamard(g, { blockSize });
    return [
      () => (signs ? reshape(mul(blocks(back), signs), x.type.shape) : back),
      () => sumTo(mul(blocks(back), blocks(x)), [blockSize]),
    ];
  }),
};

/** x [..., K] → [..., K]; signs [blockSize] of ±1 are applied before the transform. */
export function hadamard(x: Value, { blockSize, signs }: HadamardAttributes & { signs?: Value }): Value {
  return applyOp(hadamardOp, signs ? [x, signs] : [x], { blockSize })[0];
}
