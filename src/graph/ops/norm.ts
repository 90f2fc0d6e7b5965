// Normalization over the last axis.
//   rmsNorm   y = x / √(mean(x²) + ε) · weight                       (Zhang and Sennrich 2019)
//   layerNorm y = (x − mean(x)) / √(var(x) + ε) · weight + bias       (Ba et al. 2016; var divides by C)

import { elementCount } from '../../tensor/shape.ts';
import { applyOp } from '../apply.ts';
import { denseShape, expectShape } from '../check.ts';
import type { OpDefinition, Value, ValueType } from '../graph.ts';
import { f32 } from '../value-type.ts';

export interface NormAttributes {
  /** Added to the mean square or variance before the root. */
  epsilon: number;
}

function declareNorm(name: string, vectors: readonly string[]): OpDefinition<NormAttributes> {
  return {
    name,
    infer(inputs: readonly ValueType[]) {
      const shape = denseShape(name, 'x', inputs[0], [1]);
      const channels = shape.slice(-1);
      vectors.forEach((label, i) => {
        const found = denseShape(name, label, inputs[i + 1]);
        expectShape(name, label, found, channels, 'give one number for each channel of x');
      });
      return [f32(shape)];
    },
    flops: ([x]) => (vectors.length + 3) * elementCount(x.shape),
  };
}

export const rmsNormOp = declareNorm('rmsNorm', ['weight']);
export const layerNormOp = declareNorm('layerNorm', ['weight', 'bias']);

/** x [..., C], weight [C] → [..., C]. */
export function rmsNorm(x: Value, weight: Value, { epsilon }: NormAttributes): Value {
  return applyOp(rmsNormOp, [x, weight], { epsilon })[0];
}

/** x [..., C], weight [C], bias [C] → [..., C]. */
export function layerNorm(x: Value, weight: Value, bias: Value, { epsilon }: NormAttributes): Value {
  return applyOp(layerNormOp, [x, weight, bias], { epsilon })[0];
}
