// Rotary position embedding (Su et al. 2021): pairs of dimensions are rotated by position × frequency.
//
//   (u, v) → (u·cos θ − v·sin θ, v·cos θ + u·sin θ),  θ = position · inverseFrequencies[i]
//
// half (Hugging Face):  pair i is (x[i], x[i + R/2]);  interleaved (GPT-J, GGUF's Llama layout): (x[2i], x[2i + 1]).
// R = 2 · length of inverseFrequencies; dimensions from R on stay. `magnitude` scales cos and sin (YaRN's attention
// factor).

import { elementCount, printShape } from '../../tensor/shape.ts';
import { applyOp } from '../apply.ts';
import { denseShape, expectShape, indexShape, shapeError } from '../check.ts';
import type { OpDefinition, Value } from '../graph.ts';
import { perInput } from '../rule.ts';
import { f32 } from '../value-type.ts';
import { negate } from './unary.ts';

export interface RopeAttributes {
  style: 'half' | 'interleaved';
  magnitude: number;
}

export const ropeOp: OpDefinition<RopeAttributes> = {
  name: 'rope',
  infer([x, positions, inverseFrequencies]) {
    const shape = denseShape('rope', 'x', x, 4);
    const found = indexShape('rope', 'positions', positions);
    expectShape('rope', 'positions', found, shape.slice(0, 2), 'give one position for each batch row and token');
    const [half] = denseShape('rope', 'inverseFrequencies', inverseFrequencies, 1);
    if (2 * half > shape[3])
      throw shapeError(
        'rope',
        'more dimensions are rotated than x has',
        `2 × ${half} for ${printShape(shape)}`,
        `at most ${shape[3]}`,
        'shorten inverseFrequencies',
      );
    return [f32(shape)];
  },
  flops: ([x]) => 3 * elementCount(x.shape),
  // The transpose of a rotation is the rotation by the negative angle. Frequencies are not trained.
  gradient: perInput(({ inputs: [, positions, frequencies], attributes }, g) => [
    () => rope(g, positions, negate(frequencies), attributes),
    undefined,
    undefined,
  ]),
};

/** x [B, T, H, D], positions i32 [B, T], inverseFrequencies [R/2] → [B, T, H, D]. */
export function rope(
  x: Value,
  positions: Value,
  inverseFrequencies: Value,
  { style, magnitude = 1 }: { style: RopeAttributes['style']; magnitude?: number },
): Value {
  return applyOp(ropeOp, [x, positions, inverseFrequencies], { style, magnitude })[0];
}
