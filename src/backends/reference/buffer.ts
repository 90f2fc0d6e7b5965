// Memory of the reference backend: a host tensor.

import { userError } from '../../errors.ts';
import { emptyQuantized } from '../../formats/empty.ts';
import type { ValueType } from '../../graph/graph.ts';
import { printType, typeOfTensor } from '../../graph/value-type.ts';
import { elementCount } from '../../tensor/shape.ts';
import { type AnyTensor, qtensor, type Tensor, tensorBytes } from '../../tensor/tensor.ts';
import type { Buffer } from '../backend.ts';

export type Precision = 'f32' | 'f64';

export class ReferenceBuffer implements Buffer {
  readonly type: ValueType;
  readonly byteLength: number;
  #tensor: AnyTensor | undefined;

  constructor(tensor: AnyTensor) {
    this.type = typeOfTensor(tensor);
    this.byteLength = tensorBytes(tensor);
    this.#tensor = tensor;
  }

  /** The tensor; throws after dispose. */
  get tensor(): AnyTensor {
    if (this.#tensor) return this.#tensor;
    throw new Error(`reference: buffer ${printType(this.type)} was disposed`);
  }

  dispose(): void {
    this.#tensor = undefined;
  }
}

/** The reference buffer behind a Buffer; memory of another backend is refused. */
export function referenceTensor(name: string, buffer: Buffer): AnyTensor {
  if (buffer instanceof ReferenceBuffer) return buffer.tensor;
  throw userError({
    code: 'foreign-buffer',
    op: 'compile',
    problem: `${name} is bound to memory of another backend`,
    fix: 'upload it with the backend that compiles the graph',
  });
}

/** Zero-filled dense memory, f64 under precision 'f64'; over `memory` at `offset` when given. */
export function denseTensor(type: ValueType, precision: Precision, memory?: ArrayBuffer, offset = 0): Tensor {
  if (type.dtype === 'packed') throw new Error(`reference: ${printType(type)} is not dense`);
  const n = elementCount(type.shape);
  const dtype = type.dtype === 'i32' ? 'i32' : precision;
  const Data = { f32: Float32Array, i32: Int32Array, f64: Float64Array }[dtype];
  const data = memory ? new Data(memory, offset, n) : new Data(n);
  return { kind: 'dense', shape: type.shape, dtype, data };
}

/** Memory that outlives runs, zero-filled: dense, or packed with codes and scales of zero. */
export function stateTensor(type: ValueType, precision: Precision): AnyTensor {
  if (type.dtype !== 'packed') return denseTensor(type, precision);
  const cols = type.shape[type.shape.length - 1];
  return qtensor(type.shape, emptyQuantized(type.format, elementCount(type.shape) / cols, cols));
}

/** A private copy of a host tensor, widened to f64 under precision 'f64'. */
export function copyTensor(tensor: AnyTensor, precision: Precision): AnyTensor {
  if (tensor.kind === 'packed') return tensor; // weights are never written to
  const copy = denseTensor(typeOfTensor(tensor), precision);
  copy.data.set(tensor.data);
  return copy;
}
