// The reference codec of every format: quantize a matrix, and get its values back.
//
// What each format rounds and how is stated where it is implemented: block-codec.ts (integers, minifloats, codebooks,
// MX), nvfp4.ts (library conventions, four-over-six, IF4), hif4.ts, ggml/ (llama.cpp's blocks), bits.ts (16-bit floats).
// Kernels on other backends give the same bytes.

import { modelError, type SubbyteError } from '../errors.ts';
import { bf16Bits, bf16Value, f16Bits, f16Value } from './bits.ts';
import { type FixedScale, fixedScaleProblem, takesFixedScale } from './fixed-scale.ts';
import type { FloatFormat, Format, Quantized } from './format.ts';
import { dequantizeGgml, quantizeGgml } from './ggml/quantize.ts';
import { ggmlRowBytes } from './ggml/types.ts';
import { dequantizeHif4Rows, quantizeHif4 } from './hif4.ts';
import { dequantizeSpecRows, quantizeSpec } from './quantize-spec.ts';

export interface QuantizeOptions {
  /** Key of the random numbers of stochastic rounding; 32-bit integers. Default 0. */
  seed?: number;
  stream?: number;
  step?: number;
  /** Index of the first value in its stream: set it when a matrix is quantized in pieces. Default 0. */
  firstElement?: number;
  /** One weight a column, for the searches of ggml types. Other formats ignore it. */
  importance?: Float32Array;
  /** The scale, for formats that take a fixed one; values beyond its range are clipped. Absent: it follows from the values. */
  fixed?: FixedScale;
  /** NaN and infinity in the input: an error (default), or NaN → 0 and ±infinity → ± the largest float32. */
  nonFinite?: 'error' | 'clamp';
  /** Name of the tensor, for messages. */
  tensor?: string;
}

/**
 * Quantizes a row-major matrix.
 *
 * @param values float32 values [rows, cols]; cols is the reduction dimension K
 * @returns packed codes and scales; `quantizedBytes` counts them
 * @throws model error on NaN or infinity (see options), user error when K does not suit the format
 * @example quantize(new Float32Array(64), 2, 32, parseFormat('mxfp4'))
 */
export function quantize(
  values: Float32Array,
  rows: number,
  cols: number,
  format: Format,
  options: QuantizeOptions = {},
): Quantized {
  if (values.length !== rows * cols) throw new Error(`quantize: ${values.length} values for ${rows} × ${cols}`);
  const { fixed } = options;
  if (fixed && !(takesFixedScale(format) && !fixedScaleProblem(format, fixed)))
    throw new Error(`quantize: the fixed scale ${JSON.stringify(fixed)} does not suit the format`);
  if (format.kind === 'float') return quantizeFloat(values, rows, cols, format);
  const finite = checkFinite(values, cols, options);
  switch (format.kind) {
    case 'quant':
      return quantizeSpec(finite, rows, cols, format, {
        seed: options.seed ?? 0,
        stream: options.stream ?? 0,
        step: options.step ?? 0,
        firstElement: options.firstElement ?? 0,
        fixed,
      });
    case 'hif4':
      return quantizeHif4(finite, rows, cols, format);
    case 'ggml': {
      const codes = quantizeGgml(format.type, finite, rows, cols, options.importance);
      return { format, rows, cols, codes, scales: new Uint8Array(0), zeroPoints: undefined, tensorScale: 1 };
    }
  }
}

/** All values of a quantized matrix, float32 [rows, cols]. */
export function dequantize(q: Quantized): Float32Array {
  return dequantizeRows(q, 0, q.rows, new Float32Array(q.rows * q.cols));
}

/**
 * Values of `count` rows from row `first` on.
 *
 * @param out float32, at least count × cols; returned
 */
export function dequantizeRows(q: Quantized, first: number, count: number, out: Float32Array): Float32Array {
  if (first < 0 || first + count > q.rows) throw new Error(`dequantizeRows: rows ${first}+${count} of ${q.rows}`);
  const { format } = q;
  switch (format.kind) {
    case 'float':
      dequantizeFloatRows(q, format, first, count, out);
      break;
    case 'quant':
      dequantizeSpecRows(q, format, first, count, out);
      break;
    case 'hif4':
      dequantizeHif4Rows(q, first, count, out);
      break;
    case 'ggml': {
      const rowBytes = ggmlRowBytes(format.type, q.cols);
      const bytes = q.codes.subarray(first * rowBytes, (first + count) * rowBytes);
      out.set(dequantizeGgml(format.type, bytes, count, q.cols));
    }
  }
  return out;
}

/** Returns the values when all are finite; otherwise does what the option says. */
function checkFinite(values: Float32Array, cols: number, options: QuantizeOptions): Float32Array {
  let bad = -1;
  for (let i = 0; i < values.length; i++) {
    // x − x is 0 for finite numbers only
    if (values[i]! - values[i]! !== 0) {
      bad = i;
      break;
    }
  }
  if (bad < 0) return values;
  if (options.nonFinite === 'clamp') {
    const max = 3.4028234663852886e38;
    return values.map((x) => (Number.isNaN(x) ? 0 : Math.min(Math.max(x, -max), max)));
  }
  throw nonFiniteValue(Math.floor(bad / cols), bad % cols, values[bad]!, options.tensor);
}

/** The error for a NaN or an infinity in a matrix to be quantized. */
export function nonFiniteValue(row: number, column: number, value: number, tensor?: string): SubbyteError {
  return modelError({
    code: 'non-finite-value',
    op: 'quantize',
    problem: `the value at row ${row}, column ${column} is not finite`,
    got: String(value),
    expected: 'finite numbers',
    fix: 'repair the checkpoint or leave this tensor unquantized',
    tensor,
  });
}

function quantizeFloat(values: Float32Array, rows: number, cols: number, format: FloatFormat): Quantized {
  const codes = new Uint8Array(values.length * (format.name === 'f32' ? 4 : 2));
  const view = new DataView(codes.buffer);
  for (let i = 0; i < values.length; i++) {
    if (format.name === 'f32') view.setFloat32(4 * i, values[i]!, true);
    else view.setUint16(2 * i, format.name === 'f16' ? f16Bits(values[i]!) : bf16Bits(values[i]!), true);
  }
  return { format, rows, cols, codes, scales: new Uint8Array(0), zeroPoints: undefined, tensorScale: 1 };
}

function dequantizeFloatRows(q: Quantized, format: FloatFormat, first: number, count: number, out: Float32Array): void {
  const view = new DataView(q.codes.buffer, q.codes.byteOffset, q.codes.byteLength);
  const start = first * q.cols;
  for (let i = 0; i < count * q.cols; i++) {
    const at = start + i;
    if (format.name === 'f32') out[i] = view.getFloat32(4 * at, true);
    else {
      const code = view.getUint16(2 * at, true);
      out[i] = format.name === 'f16' ? f16Value(code) : bf16Value(code);
    }
  }
}
