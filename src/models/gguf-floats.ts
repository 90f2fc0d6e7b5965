// Float tensors as the little-endian bytes of another float type.
//
// Widening is exact; f32 or bf16 to f16 rounds to nearest, ties to even, and a value beyond f16's 65504 is an error, not
// an infinity.

import { modelError } from '../errors.ts';
import { bf16ToF32, f16ToF32, f32ToBf16, f32ToF16 } from '../formats/bits.ts';
import type { FloatFormat } from '../formats/format.ts';
import type { AnyTensor } from '../tensor/tensor.ts';

/** Bytes of a dense f32 tensor or a packed float tensor in type `to`. Throws a plain Error for quantized ones. */
export function floatBytes(tensor: AnyTensor, to: FloatFormat['name'], name: string): Uint8Array {
  if (tensor.kind === 'packed' && tensor.data.format.kind === 'float' && tensor.data.format.name === to)
    return tensor.data.codes;
  const values = floatValues(tensor, name);
  if (to === 'f32') return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  const codes = to === 'bf16' ? f32ToBf16(values) : f32ToF16(values);
  const infinite = codes.findIndex((c, i) => to === 'f16' && (c & 0x7fff) === 0x7c00 && Number.isFinite(values[i]));
  if (infinite >= 0)
    throw modelError({
      code: 'f16-range',
      op: 'write F16',
      problem: 'a value is beyond the range of f16',
      got: values[infinite],
      expected: 'at most 65504',
      tensor: name,
      fix: 'use bf16 for this tensor',
    });
  return new Uint8Array(codes.buffer, codes.byteOffset, codes.byteLength);
}

/** The values of a dense f32 or packed float tensor. */
export function floatValues(tensor: AnyTensor, name: string): Float32Array {
  if (tensor.kind === 'dense' && tensor.data instanceof Float32Array) return tensor.data;
  if (tensor.kind === 'packed' && tensor.data.format.kind === 'float') {
    const { codes, format } = tensor.data;
    const aligned = codes.byteOffset % 4 === 0 ? codes : codes.slice();
    if (format.name === 'f32') return new Float32Array(aligned.buffer, aligned.byteOffset, aligned.byteLength / 4);
    const half = new Uint16Array(aligned.buffer, aligned.byteOffset, aligned.byteLength / 2);
    return format.name === 'bf16' ? bf16ToF32(half) : f16ToF32(half);
  }
  throw new Error(`floatValues: ${name} is no float tensor`);
}
