// Memory of the WebGPU backend: one GPUBuffer for each bound value.

import { deviceError, userError } from '../../errors.ts';
import type { ValueType } from '../../graph/graph.ts';
import { printType } from '../../graph/value-type.ts';
import { elementCount } from '../../tensor/shape.ts';
import type { AnyTensor } from '../../tensor/tensor.ts';
import type { Buffer } from '../backend.ts';
import { packedLayout, writeParts } from '../packed-layout.ts';
import { alignedBytes, bindingAlignment } from './constants.ts';
import { type Operand, rowsAndColumns } from './kernel.ts';
import type { DeviceMemory } from './memory.ts';

type PackedType = Extract<ValueType, { dtype: 'packed' }>;

const layoutOf = (type: PackedType) => packedLayout(type.format, ...rowsAndColumns(type.shape), bindingAlignment);

/** Bytes that a value of this type takes here, a multiple of 256. */
export function storedBytes(type: ValueType): number {
  return type.dtype === 'packed' ? layoutOf(type).byteLength : alignedBytes(4 * elementCount(type.shape));
}

/** Throws a device error when a value is larger than what a kernel can bind. */
export function checkSize(op: string, name: string, type: ValueType, limit: number): void {
  const bytes = storedBytes(type);
  if (bytes <= limit) return;
  throw deviceError({
    code: 'webgpu-binding-size',
    op,
    problem: `${name} ${printType(type)} is larger than a kernel can bind on this device`,
    got: `${bytes} bytes`,
    expected: `at most ${limit}`,
    fix: 'use a shorter window, a smaller batch or a smaller format, or choose the wasm backend',
  });
}

export class WebgpuBuffer implements Buffer {
  readonly type: ValueType;
  readonly byteLength: number;
  readonly #memory: DeviceMemory;
  #buffer: GPUBuffer | undefined;

  /** Zero-filled memory for a value of this type. */
  constructor(memory: DeviceMemory, type: ValueType) {
    checkSize('webgpu', 'the value', type, memory.limits.bufferBytes);
    this.type = type;
    this.byteLength = storedBytes(type);
    this.#memory = memory;
    this.#buffer = memory.allocate(this.byteLength, printType(type));
    clearValue(memory.device, this.#buffer, type);
  }

  /** The buffer on the device of `memory`; throws when it lies on another or was disposed. */
  bufferIn(memory: DeviceMemory): GPUBuffer {
    if (memory === this.#memory && this.#buffer) return this.#buffer;
    throw userError({
      code: 'foreign-buffer',
      op: 'compile',
      problem: this.#buffer ? 'a buffer belongs to another webgpu backend' : 'a buffer is used after dispose',
      got: printType(this.type),
      fix: 'upload the tensor with the backend that compiles the graph',
    });
  }

  dispose(): void {
    if (this.#buffer) this.#memory.free(this.#buffer);
    this.#buffer = undefined;
  }
}

/** The device buffer of a bound Buffer; memory of another backend is refused. */
export function boundBuffer(name: string, buffer: Buffer, memory: DeviceMemory): GPUBuffer {
  if (buffer instanceof WebgpuBuffer) return buffer.bufferIn(memory);
  throw userError({
    code: 'foreign-buffer',
    op: 'compile',
    problem: `${name} is bound to memory of another backend`,
    fix: 'upload it with the backend that compiles the graph',
  });
}

/** What new memory needs beyond the zeros that WebGPU gives: the tensor scale of packed values is 1. */
export function clearValue(device: GPUDevice, buffer: GPUBuffer, type: ValueType): void {
  if (type.dtype === 'packed') device.queue.writeBuffer(buffer, layoutOf(type).tensorScale, Float32Array.of(1));
}

/** A host tensor in its stored layout; f64 values are rounded to f32. */
export function tensorBytes(tensor: AnyTensor): ArrayBufferView<ArrayBuffer> {
  if (tensor.kind === 'packed') {
    const layout = packedLayout(tensor.data.format, tensor.data.rows, tensor.data.cols, bindingAlignment);
    const bytes = new Uint8Array(layout.byteLength);
    writeParts(bytes, layout, tensor.data);
    return bytes;
  }
  // writeBuffer reads ordinary memory only, which data in shared memory is not.
  const { data } = tensor;
  if (data instanceof Float64Array || !(data.buffer instanceof ArrayBuffer))
    return tensor.dtype === 'i32' ? Int32Array.from(data) : Float32Array.from(data);
  return data as Float32Array<ArrayBuffer> | Int32Array<ArrayBuffer>;
}

/** How kernels see a value of this type that starts at `offset` of a buffer. */
export function operandAt(type: ValueType, buffer: GPUBuffer, offset: number): Operand {
  const range = { buffer, offset, bytes: storedBytes(type) };
  if (type.dtype !== 'packed') return { dtype: type.dtype, shape: type.shape, range };
  const [rows, cols] = rowsAndColumns(type.shape);
  return { dtype: 'packed', shape: type.shape, format: type.format, rows, cols, range, layout: layoutOf(type) };
}
