// Which kernel multiplies which packed operands.
//
//   anything else   encodeTiled: f32, packed operands dequantized on the way    matmul-tiled.ts

import type { Command, EncodeContext } from '../kernel.ts';
import { encodeTiled } from './matmul-tiled.ts';

/** Commands of a matmul with at least one packed operand. */
export function encodePackedProduct(context: EncodeContext): readonly Command[] {
  return encodeTiled(context);
}
