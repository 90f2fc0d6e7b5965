// One tensor into one format, by the fastest implementation that there is.
//
// Kernels on the WASM backend give the same bytes as the scalar reference codec; formats without a kernel take the
// reference, and `codecOf` says so for reports. Values come from any storage format (a quantized checkpoint is
// dequantized first: quantizing twice is the caller's decision and is noted by the pipeline).

import {
  createGgmlQuantizer,
  type GgmlQuantizer,
  hasGgmlKernel,
  type StoredValues,
} from '../backends/wasm/ggml-quantizer.ts';
import { createWasmQuantizer, type WasmQuantizer } from '../backends/wasm/quantizer.ts';
import { hasQuantizeKernel } from '../backends/wasm/quantizer-plan.ts';
import { userError } from '../errors.ts';
import type { Format, Quantized } from '../formats/format.ts';
import { ggmlRowBytes } from '../formats/ggml/types.ts';
import { quantize } from '../formats/quantize.ts';
import { formatName } from '../formats/registry.ts';
import { denseF32 } from '../models/stack.ts';
import { elementCount } from '../tensor/shape.ts';
import { type AnyTensor, type QTensor, qtensor } from '../tensor/tensor.ts';

export interface QuantizeTensorOptions {
  /** Key of stochastic rounding. */
  seed: number;
  /** Stream of the tensor: its number in the model. */
  stream: number;
  /** For messages. */
  name: string;
  /**
   * Weights of the squared error of each column: finite, not negative, K numbers, or E·K for a stack of experts
   * [E, M, K]. Used by the searches of ggml types (see quantizeGgml); other formats ignore it.
   */
  importance?: Float32Array;
}

export interface TensorQuantizer {
  quantize(tensor: AnyTensor, format: Format, options: QuantizeTensorOptions): Promise<QTensor>;
  /** `wasm` or `reference`, for the report. */
  codecOf(format: Format, cols: number): 'wasm' | 'reference';
  dispose(): void;
}

/** Rows × K of a weight: leading dimensions are rows. */
export function matrixShape(shape: readonly number[]): { rows: number; cols: number } {
  const cols = shape[shape.length - 1];
  return { rows: elementCount(shape) / cols, cols };
}

/** The scalar reference codec. */
export function referenceQuantizer(): TensorQuantizer {
  return {
    async quantize(tensor, format, options) {
      return qtensor(tensor.shape, quantizeReference(tensor, format, options));
    },
    codecOf: () => 'reference',
    dispose: () => undefined,
  };
}

function quantizeReference(tensor: AnyTensor, format: Format, options: QuantizeTensorOptions): Quantized {
  if (sameFormat(tensor, format)) return (tensor as QTensor).data;
  const { rows, cols } = matrixShape(tensor.shape);
  const { seed, stream, name } = options;
  const values = denseF32(tensor);
  if (format.kind !== 'ggml') return quantize(values, rows, cols, format, { seed, stream, tensor: name });
  const rowBytes = ggmlRowBytes(format.type, cols);
  const codes = new Uint8Array(rows * rowBytes);
  for (const { start, count, importance } of importanceParts(tensor, options)) {
    const part = values.subarray(start * cols, (start + count) * cols);
    codes.set(quantize(part, count, cols, format, { tensor: name, importance }).codes, start * rowBytes);
  }
  return ggmlMatrix(format, rows, cols, codes);
}

function ggmlMatrix(format: Format, rows: number, cols: number, codes: Uint8Array): Quantized {
  return { format, rows, cols, codes, scales: new Uint8Array(0), zeroPoints: undefined, tensorScale: 1 };
}

/** The rows that share importance weights: all of them, or each expert's. */
function importanceParts(tensor: AnyTensor, { importance, name }: QuantizeTensorOptions) {
  const { rows, cols } = matrixShape(tensor.shape);
  if (!importance) return [{ start: 0, count: rows, importance }];
  const experts = importance.length === cols ? 1 : elementCount(tensor.shape.slice(0, -2));
  const wrong = (problem: string, got: string | number, expected: string) =>
    userError({ code: 'importance', op: 'quantize', problem, got, expected, tensor: name });
  if (importance.length !== experts * cols)
    throw wrong(
      'the number of importance weights does not fit the tensor',
      importance.length,
      experts > 1 ? `${cols} or ${experts} × ${cols}` : `${cols}`,
    );
  const bad = importance.findIndex((w) => !(w >= 0 && w < Infinity));
  if (bad >= 0) throw wrong(`importance weight ${bad} is unusable`, String(importance[bad]), 'a finite number ≥ 0');
  const count = rows / experts;
  return Array.from({ length: experts }, (_, e) => ({
    start: e * count,
    count,
    importance: importance.subarray(e * cols, (e + 1) * cols),
  }));
}

/** The tensor is stored in this format already: nothing is rounded again. */
export function sameFormat(tensor: AnyTensor, format: Format): boolean {
  return tensor.kind === 'packed' && formatName(tensor.data.format) === formatName(format);
}

/** Kernels where there are some, the reference codec elsewhere. Each kernel module starts with the first use. */
export async function openQuantizer(options: { threads?: number } = {}): Promise<TensorQuantizer> {
  const reference = referenceQuantizer();
  let uniform: Promise<WasmQuantizer> | undefined;
  let ggml: Promise<GgmlQuantizer> | undefined;
  return {
    async quantize(tensor, format, quantizeOptions) {
      const { rows, cols } = matrixShape(tensor.shape);
      if (sameFormat(tensor, format) || codecOf(format, cols) === 'reference')
        return reference.quantize(tensor, format, quantizeOptions);
      const { dtype, bytes } = storedValues(tensor);
      if (format.kind !== 'ggml') {
        uniform ??= createWasmQuantizer(options);
        const data = (await uniform).quantize({ bytes, dtype, rows, cols }, format, quantizeOptions.name);
        return qtensor(tensor.shape, data);
      }
      ggml ??= createGgmlQuantizer(options);
      const kernel = await ggml;
      const rowBytes = ggmlRowBytes(format.type, cols);
      const codes = new Uint8Array(rows * rowBytes);
      for (const { start, count, importance } of importanceParts(tensor, quantizeOptions)) {
        const out = codes.subarray(start * rowBytes, (start + count) * rowBytes);
        kernel.quantize(format.type, { dtype, bytes }, cols, start, count, importance, out);
      }
      return qtensor(tensor.shape, ggmlMatrix(format, rows, cols, codes));
    },
    codecOf,
    dispose() {
      void uniform?.then((q) => q.dispose());
      void ggml?.then((q) => q.dispose());
    },
  };
}

function codecOf(format: Format, cols: number): 'wasm' | 'reference' {
  const kernel = format.kind === 'ggml' ? hasGgmlKernel(format.type) : hasQuantizeKernel(format, cols);
  return kernel ? 'wasm' : 'reference';
}

/** Bytes that a kernel reads: float storage as it is, other formats dequantized. */
function storedValues(tensor: AnyTensor): StoredValues {
  if (tensor.kind === 'packed' && tensor.data.format.kind === 'float')
    return { dtype: tensor.data.format.name, bytes: tensor.data.codes };
  const values = denseF32(tensor);
  return { dtype: 'f32', bytes: new Uint8Array(values.buffer, values.byteOffset, values.byteLength) };
}
