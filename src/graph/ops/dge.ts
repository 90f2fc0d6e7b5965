// The slope of rounding to the levels of a format, smoothed: the differentiable gradient estimator (DGE).
//
// Problem: the rounding staircase has slope 0 almost everywhere, and the straight-through estimate 1 is as wrong next
// to a level as it is right in the middle between two.
// Method: between two neighbouring levels, d apart, the staircase is replaced by a power function; with u = |2t/d − 1|,
// t the distance from the lower level and z = x / scale,
//
//   f′(z) = min(u^(1/k − 1) / k, cap),  dx = f′(z) · dy
//
// and 0 beyond the outermost levels, where the format clips. k = 1 is straight through with that mask. Scales count as
// constants. The rounding of a scale may put the largest element of a block a little outside: 2^-20 of the outermost
// level still count as inside.
// Source: Wang et al. 2025 (arXiv:2501.17116), section 3.1, equations 6–8.
// It does not do: formats with zero points, per-block choices or ggml blocks.

import { elementCodec } from '../../formats/element.ts';
import type { Format, QuantSpec } from '../../formats/format.ts';
import { elementCount } from '../../tensor/shape.ts';
import { applyOp } from '../apply.ts';
import { denseShape, expectShape, shapeError } from '../check.ts';
import type { OpDefinition, Value } from '../graph.ts';
import { f32, printType } from '../value-type.ts';

export interface DgeAttributes {
  /** Steepness of the approximation: 1 is the identity, infinity the staircase. */
  k: number;
  /** Largest slope. */
  cap: number;
}

/** Part of the outermost level by which an element may lie beyond it and still count as inside. */
export const edgeSlack = 2 ** -20;

/** x [..., K], its packed rounding y, dy → dx. */
export const dgeBackwardOp: OpDefinition<DgeAttributes> = {
  name: 'dgeBackward',
  infer([x, y, dy], { k, cap }) {
    const shape = denseShape('dgeBackward', 'x', x, [1]);
    expectShape('dgeBackward', 'y', y.shape, shape, 'y is the rounding of x');
    expectShape('dgeBackward', 'dy', denseShape('dgeBackward', 'dy', dy), shape, 'dy has the shape of x');
    if (y.dtype !== 'packed' || !hasLevels(y.format))
      throw shapeError(
        'dgeBackward',
        'y has no scaled levels',
        printType(y),
        'a format of scaled elements without zero points',
        'use another rule for this format',
      );
    if (!(k >= 1 && cap > 0))
      throw shapeError('dgeBackward', 'bad estimator', `k ${k}, cap ${cap}`, 'k from 1, cap above 0', 'use k 5, cap 3');
    return [f32(shape)];
  },
  flops: ([x]) => 12 * elementCount(x.shape),
};

/** dx of quantize at x, whose rounding is y, for the gradient of what was rounded. */
export const dgeBackward = (x: Value, y: Value, gradient: Value, attributes: DgeAttributes): Value =>
  applyOp(dgeBackwardOp, [x, y, gradient], attributes)[0];

const hasLevels = (format: Format): format is QuantSpec =>
  format.kind === 'quant' && format.zeroPoint === 'none' && format.choice === 'none';

/** The finite values of a format's codes, ascending, each once: E2M1 has −6, −4, …, 4, 6. */
export function roundingLevels(format: Format): Float64Array {
  if (!hasLevels(format)) throw new Error('roundingLevels: the format has no scaled levels');
  const values = [...new Set(elementCodec(format).values)].filter(Number.isFinite);
  return Float64Array.from(values).sort();
}
