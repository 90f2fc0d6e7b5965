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

function declareNorm(
  name: string,
  vectors: readonly string[],
  backward: OpDefinition<NormAttributes>,
): OpDefinition<NormAttributes> {
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
    gradient: ({ inputs: [x, weight], attributes }, [g]) => (g ? applyOp(backward, [x, weight, g], attributes) : []),
  };
}

/** x [..., C], weight [C], dy [..., C] → dx and the gradients of the vectors [C], summed over all rows. */
function declareNormBackward(forward: string, vectors: readonly string[]): OpDefinition<NormAttributes> {
  const name = `${forward}Backward`;
  return {
    name,
    infer([x, weight, dy]) {
      const shape = denseShape(name, 'x', x, [1]);
      const channels = shape.slice(-1);
      expectShape(
        name,
        'weight',
        denseShape(name, 'weight', weight),
        channels,
        'give one number for each channel of x',
      );
      expectShape(name, 'dy', denseShape(name, 'dy', dy), shape, 'dy has the shape of x');
      return [f32(shape), ...vectors.map(() => f32(channels))];
    },
    flops: ([x]) => (vectors.length + 7) * elementCount(x.shape),
  };
}

export const rmsNormBackwardOp = declareNormBackward('rmsNorm', ['weight']);
export const layerNormBackwardOp = declareNormBackward('layerNorm', ['weight', 'bias']);
export const rmsNormOp = declareNorm('rmsNorm', ['weight'], rmsNormBackwardOp);
export const layerNormOp = declareNorm('layerNorm', ['weight', 'bias'], layerNormBackwardOp);

/** x [..., C], weight [C] → [..., C]. */
export function rmsNorm(x: Value, weight: Value, { epsilon }: NormAttributes): Value {
  return applyOp(rmsNormOp, [x, weight], { epsilon })[0];
}

/** x [..., C], weight [C], bias [C] → [..., C]. */
export function layerNorm(x: Value, weight: Value, bias: Value, { epsilon }: NormAttributes): Value {
  return applyOp(layerNormOp, [x, weight, bias], { epsilon })[0];
}
