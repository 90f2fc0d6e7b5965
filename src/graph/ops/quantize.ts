// Between dense and packed values inside a graph.
//
// quantize rounds x [..., K] to a format, each row of K values on its own except for per-tensor scales. A per-tensor
// format may have its scale fixed beforehand (formats/fixed-scale.ts): values beyond it are clipped. Stochastic
// rounding draws from the counter-based generator keyed by (seed, stream), counted by the step, an operand, and indexed by
// element, so that every backend rounds alike and a compiled graph rounds anew in each step. dequantize gives the stored
// values back as f32. Where a gradient shall pass only what was not clipped, quantize also gives one bit for each value.

import { userError } from '../../errors.ts';
import { type FixedScale, fixedScaleFormats, fixedScaleProblem, takesFixedScale } from '../../formats/fixed-scale.ts';
import type { Format } from '../../formats/format.ts';
import { formatName } from '../../formats/registry.ts';
import { elementCount, type Shape } from '../../tensor/shape.ts';
import { applyOp } from '../apply.ts';
import { denseShape, expectShape, indexShape, shapeError } from '../check.ts';
import type { OpDefinition, Value } from '../graph.ts';
import { perInput } from '../rule.ts';
import { valueBytes } from '../value-bytes.ts';
import { f32, i32, packed, printType } from '../value-type.ts';

export interface QuantizeAttributes {
  format: Format;
  /** Key of the random numbers; used by stochastic rounding only. */
  seed: number;
  /** Second half of the key: one stream for each tensor that is rounded. */
  stream: number;
  /** Scale and zero point that calibration found; absent: they follow from x. */
  fixed?: FixedScale;
  /** With it the second output: bit j of word i of a row is 1 where |x[32 i + j]| < bound · its scale. */
  bound?: number;
}

export const quantizeOp: OpDefinition<QuantizeAttributes> = {
  name: 'quantize',
  noGradient: 'rounding has no useful derivative: pass a rule such as straightThrough',
  infer([x, step], { format, fixed, bound }) {
    if (fixed) checkFixed(format, fixed);
    const shape = denseShape('quantize', 'x', x, [1]);
    const type = packed(shape, format);
    valueBytes(type); // throws when K is no multiple of the group
    if (step) expectShape('quantize', 'step', indexShape('quantize', 'step', step), [1], 'pass one number');
    if (bound === undefined) return [type];
    checkBound(shape, format);
    return [type, i32([...shape.slice(0, -1), shape[shape.length - 1] / 32])];
  },
};

/** Bits are for direct scales and whole words. */
function checkBound(shape: Shape, format: Format): void {
  const K = shape[shape.length - 1];
  const direct = format.kind === 'quant' && format.zeroPoint === 'none' && format.choice === 'none';
  if (direct && K % 32 === 0) return;
  throw shapeError(
    'quantize',
    'no bits for this format and width',
    `${formatName(format)}, K ${K}`,
    'a symmetric format of one scale, K a multiple of 32',
    'leave out bound',
  );
}

export interface RandomKey {
  /** 32-bit integers; 0 when absent. */
  readonly seed?: number;
  readonly stream?: number;
  /** i32 [1]; numbers of a stream differ from step to step. 0 when absent. */
  readonly step?: Value;
}

/** x [..., K] → packed [..., K]. */
export function quantize(
  x: Value,
  format: Format,
  { seed = 0, stream = 0, step, fixed }: RandomKey & { readonly fixed?: FixedScale } = {},
): Value {
  return applyOp(quantizeOp, step ? [x, step] : [x], { format, seed, stream, ...(fixed && { fixed }) })[0];
}

/** x [..., K] → packed [..., K] and i32 [..., K/32]: bit j of word i of a row says |x[32 i + j]| < bound · its scale. */
export function quantizeWithBits(
  x: Value,
  format: Format,
  bound: number,
  { seed = 0, stream = 0, step }: RandomKey = {},
): { packed: Value; bits: Value } {
  const [codes, bits] = applyOp(quantizeOp, step ? [x, step] : [x], { format, seed, stream, bound });
  return { packed: codes, bits };
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

/** Inputs x and bits. */
export const selectBitsOp: OpDefinition<Record<string, never>> = {
  name: 'selectBits',
  elementwise: true,
  infer([x, bits]) {
    const shape = denseShape('selectBits', 'x', x, [1]);
    const words = [...shape.slice(0, -1), shape[shape.length - 1] / 32];
    expectShape('selectBits', 'bits', indexShape('selectBits', 'bits', bits), words, 'give one bit for each value');
    return [f32(shape)];
  },
  flops: ([x]) => elementCount(x.shape),
  gradient: perInput(({ inputs: [, bits] }, g) => [() => selectBits(g, bits)]),
};

/** x [..., K] where the bits i32 [..., K/32] of quantizeWithBits are 1, else 0. */
export const selectBits = (x: Value, bits: Value): Value => applyOp(selectBitsOp, [x, bits], {})[0];

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
