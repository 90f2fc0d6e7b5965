// Fitting scales: the quantizer of the format, on a whole weight or on one group of columns.

import type { Format, Quantized } from '../../formats/format.ts';
import { tensorF32 } from '../../tensor/tensor.ts';
import type { TensorQuantizer } from '../tensor-quantizer.ts';

/** Quantizes values [rows, cols]; of the result only the scales are used, and the codes for plain rounding. */
export type Fit = (values: Float32Array, rows: number, cols: number, format: Format) => Promise<Quantized>;

/**
 * Fits by the quantizer of plain rounding; `importance` weighs the searches of ggml types, for whole rows of K values.
 *
 * @example const tools = { solver, fit: quantizerFit(await openQuantizer()) };
 */
export function quantizerFit(quantizer: TensorQuantizer, seed = 0, importance?: Float32Array): Fit {
  return async (values, rows, cols, format) => {
    const options = {
      seed,
      stream: 0,
      name: 'a group',
      importance: importance?.length === cols ? importance : undefined,
    };
    return (await quantizer.quantize(tensorF32([rows, cols], values), format, options)).data;
  };
}

/**
 * Fits the scales of one group of columns, values [rows, span], under a tensor scale that is fixed already.
 *
 * Tensor scales follow from the largest magnitude of the tensor. One more row that holds it makes the quantizer arrive
 * at the same tensor scale; values that have grown beyond it count as it. Values that error feedback has driven out of
 * the range of float32 count as 0: the caller finds the error of such a layer.
 *
 * @param tensorAmax largest magnitude of the whole weight
 * @returns at least `rows` rows
 */
export async function fitGroup(
  scalesOf: Fit,
  values: Float32Array,
  rows: number,
  span: number,
  format: Format,
  tensorAmax: number,
): Promise<Quantized> {
  const finite = values.map((v) => (v - v === 0 ? v : 0));
  const fixed = format.kind === 'quant' && format.scale.tensorScale && format.scale.rule !== 'four-thirds';
  if (!fixed) return scalesOf(finite, rows, span, format);
  const more = new Float32Array((rows + 1) * span);
  for (let i = 0; i < finite.length; i++) more[i] = Math.min(Math.max(finite[i], -tensorAmax), tensorAmax);
  more[rows * span] = tensorAmax;
  return scalesOf(more, rows + 1, span, format);
}
