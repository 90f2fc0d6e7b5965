// Constructors and printing of value types.

import type { Format } from '../formats/format.ts';
import { formatName } from '../formats/registry.ts';
import { printShape, type Shape } from '../tensor/shape.ts';
import type { AnyTensor } from '../tensor/tensor.ts';
import type { ValueType } from './graph.ts';

/** Dense f32 values: `f32([2, 3])`. */
export const f32 = (shape: Shape): ValueType => ({ dtype: 'f32', shape });

/** Dense i32 values (token ids, positions, targets): `i32([4])`. */
export const i32 = (shape: Shape): ValueType => ({ dtype: 'i32', shape });

/** Values stored in a format; the last dimension is K: `packed([768, 256], parseFormat('mxfp4'))`. */
export const packed = (shape: Shape, format: Format): ValueType => ({ dtype: 'packed', shape, format });

/** The type that a graph gives to a host tensor; f64 tensors stand for f32 values. */
export function typeOfTensor(tensor: AnyTensor): ValueType {
  if (tensor.kind === 'packed') return packed(tensor.shape, tensor.data.format);
  return tensor.dtype === 'i32' ? i32(tensor.shape) : f32(tensor.shape);
}

/** Equal dtype, shape and format; formats are equal when their names are, since a name prints the whole format. */
export function sameType(a: ValueType, b: ValueType): boolean {
  return a.dtype === b.dtype && printType(a) === printType(b);
}

/** `f32[2, 3]`, `mxfp4[768, 256]`, as shown in messages and listings. */
export function printType(type: ValueType): string {
  return (type.dtype === 'packed' ? formatName(type.format) : type.dtype) + printShape(type.shape);
}
