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
import type { Format, Quantized } from '../formats/format.ts';
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
    async quantize(tensor, format, { seed, stream, name }) {
      return qtensor(tensor.shape, quantizeReference(tensor, format, seed, stream, name));
    },
    codecOf: () => 'reference',
    dispose: () => undefined,
  };
}

function quantizeReference(tensor: AnyTensor, format: Format, seed: number, stream: number, name: string): Quantized {
  if (sameFormat(tensor, format)) return (tensor as QTensor).data;
  const { rows, cols } = matrixShape(tensor.shape);
  return quantize(denseF32(tensor), rows, cols, format, { seed, stream, tensor: name });
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
      const codes = (await ggml).quantize(format.type, { dtype, bytes }, cols, 0, rows);
      const none = new Uint8Array(0);
      return qtensor(tensor.shape, { format, rows, cols, codes, scales: none, zeroPoints: undefined, tensorScale: 1 });
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
