// Host tensors: plain data with a shape. Device memory belongs to the backends.

import { type Quantized, quantizedBytes } from '../formats/format.ts';
import { elementCount, printShape, type Shape } from './shape.ts';

/** f32 values or i32 indices, row-major and contiguous. f64 exists for the reference backend's gradient checks. */
export interface Tensor {
  kind: 'dense';
  shape: Shape;
  dtype: 'f32' | 'i32' | 'f64';
  data: Float32Array | Int32Array | Float64Array;
}

/**
 * A tensor in a low-bit or 16-bit storage format. The last dimension is K; all others are collapsed into rows, so a
 * stack of experts [E, N, K] has E·N rows.
 */
export interface QTensor {
  kind: 'packed';
  shape: Shape;
  data: Quantized;
}

export type AnyTensor = Tensor | QTensor;

export function tensorF32(shape: Shape, data: Float32Array): Tensor {
  if (data.length !== elementCount(shape))
    throw new Error(`tensorF32: ${data.length} values for shape ${printShape(shape)}`);
  return { kind: 'dense', shape, dtype: 'f32', data };
}

export function tensorI32(shape: Shape, data: Int32Array): Tensor {
  if (data.length !== elementCount(shape))
    throw new Error(`tensorI32: ${data.length} values for shape ${printShape(shape)}`);
  return { kind: 'dense', shape, dtype: 'i32', data };
}

export function qtensor(shape: Shape, data: Quantized): QTensor {
  if (data.rows * data.cols !== elementCount(shape))
    throw new Error(`qtensor: ${data.rows}×${data.cols} quantized values for shape ${printShape(shape)}`);
  return { kind: 'packed', shape, data };
}

export function tensorBytes(t: AnyTensor): number {
  return t.kind === 'dense' ? t.data.byteLength : quantizedBytes(t.data);
}
