// A chain of ops that ends in quantize, as one op of this backend: fuse-quantize.ts makes it, kernels/fused-quantize.ts runs
// it. No graph that a caller traces holds it.
//
//   [dequantize] → [transpose] → [hadamard, signs before or after it] → quantize (step, bits)

import type { OpDefinition } from '../../graph/graph.ts';
import { hadamardOp } from '../../graph/ops/hadamard.ts';
import { type QuantizeAttributes, quantizeOp } from '../../graph/ops/quantize.ts';
import { f32 } from '../../graph/value-type.ts';
import { elementCount } from '../../tensor/shape.ts';

export interface FusedQuantizeAttributes extends QuantizeAttributes {
  /** The rows of the result are the columns of the source [K, M]. */
  readonly transposed: boolean;
  /** Length of the Hadamard transform's blocks along K; 1: none. */
  readonly blockSize: number;
  /** Where the signs act: on the input of the transform, on its result. */
  readonly signs: 'none' | 'first' | 'last';
  /** Threads of a workgroup: 64, 128 or 256. */
  readonly threads: number;
}

/** Inputs source (f32 or packed), signs where there are any, step where there is one; outputs as of quantize. */
export const fusedQuantizeOp: OpDefinition<FusedQuantizeAttributes> = {
  // errors name the op that the caller wrote
  name: 'quantize',
  infer([source, ...more], attributes) {
    const { transposed, signs } = attributes;
    const shape = transposed ? source.shape.toReversed() : source.shape;
    return quantizeOp.infer([f32(shape), ...more.slice(signs === 'none' ? 0 : 1)], attributes);
  },
  flops([source], { blockSize, signs }) {
    const count = elementCount(source.shape);
    const turn = blockSize === 1 ? 0 : hadamardOp.flops!([f32(source.shape)], { blockSize });
    return turn + (signs === 'last' ? count : 0);
  },
};
