// Memory of the WebGPU backend: one GPUBuffer for each bound value.

import { deviceError, userError } from '../../errors.ts';
import type { ValueType } from '../../graph/graph.ts';
import { printType } from '../../graph/value-type.ts';
import { elementCount } from '../../tensor/shape.ts';
import type { AnyTensor } from '../../tensor/tensor.ts';
import type { Buffer } from '../backend.ts';
import { packedLayout, writeParts } from '../packed-layout.ts';
import { alignedBytes, bindingAlignment } from './constants.ts';
import { type MemoryRange, type Operand, rowsAndColumns } from './kernel.ts';
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

/** A device buffer in which values lie side by side; it is freed with the last of them. */
interface Home {
  readonly buffer: GPUBuffer;
  values: number;
}

export class WebgpuBuffer implements Buffer {
  readonly type: ValueType;
  readonly byteLength: number;
  readonly #memory: DeviceMemory;
  #home: Home | undefined;
  #offset = 0;
  #isBound = false;

  /** Zero-filled memory for a value of this type. */
  constructor(memory: DeviceMemory, type: ValueType) {
    checkSize('webgpu', 'the value', type, memory.limits.bufferBytes);
    this.type = type;
    this.byteLength = storedBytes(type);
    this.#memory = memory;
    this.#home = { buffer: memory.allocate(this.byteLength, printType(type)), values: 1 };
    clearValue(memory.device, this.#home.buffer, type);
  }

  /** Where it lies on the device of `memory`; throws when it lies on another or was disposed. */
  rangeIn(memory: DeviceMemory): MemoryRange {
    const [home, bytes] = [this.#home, this.byteLength];
    if (memory === this.#memory && home) return { buffer: home.buffer, offset: this.#offset, bytes };
    throw userError({
      code: 'foreign-buffer',
      op: 'compile',
      problem: home ? 'a buffer belongs to another webgpu backend' : 'a buffer is used after dispose',
      got: printType(this.type),
      fix: 'upload the tensor with the backend that compiles the graph',
    });
  }

  /** Where it lies, for a graph that is compiled: from now on it stays there. */
  bind(memory: DeviceMemory): MemoryRange {
    const range = this.rangeIn(memory);
    this.#isBound = true;
    return range;
  }

  /** Whether packBuffers may move it: no compiled graph knows its place, and it is not packed yet. */
  canMove(memory: DeviceMemory): boolean {
    return memory === this.#memory && this.#home !== undefined && this.#home.values === 1 && !this.#isBound;
  }

  /** Gives up its memory for a place in `home`, to which its bytes were copied. */
  move(home: Home, offset: number): void {
    this.dispose();
    home.values++;
    [this.#home, this.#offset] = [home, offset];
  }

  dispose(): void {
    if (this.#home && --this.#home.values === 0) this.#memory.free(this.#home.buffer);
    this.#home = undefined;
  }
}

/** Lays values side by side in as few device buffers as hold them. Those that cannot move stay where they are. */
export async function packBuffers(buffers: Iterable<Buffer>, memory: DeviceMemory): Promise<void> {
  const { device, limits } = memory;
  const movable = [...buffers].filter((b): b is WebgpuBuffer => b instanceof WebgpuBuffer && b.canMove(memory));
  for (let first = 0; first < movable.length; ) {
    let bytes = 0;
    let end = first;
    while (end < movable.length && bytes + movable[end].byteLength <= limits.bufferBytes)
      bytes += movable[end++].byteLength;
    const group = movable.slice(first, end);
    first = end;
    const buffer = await memory.tryAllocate(bytes, 'values side by side');
    // without room for a second copy they stay apart
    if (!buffer) return;
    const home: Home = { buffer, values: 0 };
    const encoder = device.createCommandEncoder();
    const places: number[] = [];
    let next = 0;
    for (const value of group) {
      const from = value.rangeIn(memory);
      encoder.copyBufferToBuffer(from.buffer, from.offset, buffer, next, from.bytes);
      places.push(next);
      next += from.bytes;
    }
    device.queue.submit([encoder.finish()]);
    for (const [i, value] of group.entries()) value.move(home, places[i]);
  }
}

/** Where a bound Buffer lies; memory of another backend is refused. */
export function boundRange(name: string, buffer: Buffer, memory: DeviceMemory): MemoryRange {
  if (buffer instanceof WebgpuBuffer) return buffer.bind(memory);
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
