// Which kernel multiplies which packed operands.
//
//   both packed, scales by whole rows      encodeIntegerMatrices: i8 matrices          matmul-integer-matrices.ts
//   both packed, integers on both sides    encodeInteger: exact block sums             matmul-integer.ts
//   dense a of at most 8 rows, packed b    encodeVector: reads the weight once         matmul-vector.ts
//   anything else                          encodeTiled: f32, dequantized on the way    matmul-tiled.ts

import type { MatmulAttributes } from '../../../graph/ops/matmul.ts';
import { productOf } from '../../product.ts';
import { type Command, dense, type EncodeContext } from '../kernel.ts';
import { dotPlan, encodeInteger } from './matmul-integer.ts';
import { encodeIntegerMatrices, planIntegerMatrices } from './matmul-integer-matrices.ts';
import { encodeTiled } from './matmul-tiled.ts';
import { encodeVector, mostRows } from './matmul-vector.ts';

/** Commands of a matmul with at least one packed operand. */
export function encodePackedProduct(context: EncodeContext): readonly Command[] {
  const { node, inputs, outputs, gpu } = context;
  const [a, b] = inputs;
  const matrices = planIntegerMatrices(node, gpu);
  if (matrices) return encodeIntegerMatrices(context, matrices);
  const product = productOf(node);
  const plan = dotPlan(node, product);
  if (plan) return encodeInteger(context, product, plan);
  const { transposeA } = node.attributes as unknown as MatmulAttributes;
  if (a.dtype !== 'packed' && b.dtype === 'packed' && product.M <= mostRows && !transposeA)
    return [encodeVector({ a: dense(inputs, 0), w: b, y: dense(outputs, 0) }, product, gpu)];
  return encodeTiled(context);
}
