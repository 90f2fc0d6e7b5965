// Between dense and packed values inside a graph.
//
// quantize rounds x [..., K] to a format, each row of K values on its own except for per-tensor scales. A per-tensor
// format may have its scale fixed beforehand (formats/fixed-scale.ts): values beyond it are clipped. Stochastic
// rounding draws from the counter-based generator keyed by (seed, stream) and indexed by element, so that every
// backend rounds alike. dequantize gives the stored values back as f32.

import { userError } from '../../errors.ts';
import { type FixedScale, fixedScaleFormats, fixedScaleProblem, takesFixedScale } from '../../formats/fixed-scale.ts';
import type { Format } from '../../formats/format.ts';
import { formatName } from '../../formats/registry.ts';
import { applyOp } from '../apply.ts';
import { denseShape, shapeError } from '../check.ts';
import type { OpDefinition, Value } from '../graph.ts';
import { perInput } from '../rule.ts';
import { valueBytes } from '../value-bytes.ts';
import { f32, packed, printType } from '../value-type.ts';

export interface QuantizeAttributes {
  format: Format;
  /** Key of the random numbers; used by stochastic rounding only. */
  seed: number;
  /** Second half of the key: one stream for each tensor that is rounded. */
  stream: number;
  /** Scale and zero point that calibration found; absent: they follow from x. */
  fixed?: FixedScale;
}

export const quantizeOp: OpDefinition<QuantizeAttributes> = {
  name: 'quantize',
  noGradient: 'rounding has no useful derivative: pass a rule such as straightThrough',
  infer([x], { format, fixed }) {
    if (fixed) checkFixed(format, fixed);
    const type = packed(denseShape('quantize', 'x', x, [1]), format);
    valueBytes(type); // throws when K is no multiple of the group
    return [type];
  },
};

/** x [..., K] → packed [..., K]. */
export function quantize(
  x: Value,
  format: Format,
  { seed = 0, stream = 0, fixed }: Partial<Omit<QuantizeAttributes, 'format'>> = {},
): Value {
  return applyOp(quantizeOp, [x], { format, seed, stream, ...(fixed && { fixed }) })[0];
}

function checkFixed(format: Format, fixed: FixedScale): void {
  const wrong = takesFixedScale(format) ? fixedScaleProblem(format, fixed) : fixedScaleFormats;
  if (wrong === undefined) return;
  throw userError({
    code: 'fixed-scale',
    op: 'quantize',
    problem: 'the fixed scale does not suit the format',
    got: `${formatName(format)} with ${JSON.stringify(fixed)}`,
    expected: wrong,
  });
}

export const dequantizeOp: OpDefinition<Record<string, never>> = {
  name: 'dequantize',
  infer([x]) {
    if (x.dtype === 'packed') return [f32(x.shape)];
    throw shapeError('dequantize', 'x is dense already', printType(x), 'packed values', 'leave out dequantize');
  },
  gradient: perInput((_, g) => [() => g]),
};

/** packed [..., K] → f32 [..., K]. */
export const dequantize = (x: Value): Value => applyOp(dequantizeOp, [x], {})[0];
