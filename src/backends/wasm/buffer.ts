// Memory of the WASM backend: an address in its shared memory.

import { userError } from '../../errors.ts';
import type { ValueType } from '../../graph/graph.ts';
import { printType } from '../../graph/value-type.ts';
import { elementCount } from '../../tensor/shape.ts';
import type { AnyTensor } from '../../tensor/tensor.ts';
import type { Buffer } from '../backend.ts';
import type { Allocator } from './allocator.ts';
import type { Operand } from './encoder.ts';
import { clearValue, packedOperand, storedBytes, writePacked } from './packed-layout.ts';

export class WasmBuffer implements Buffer {
  readonly type: ValueType;
  readonly byteLength: number;
  readonly #allocator: Allocator;
  #address: number | undefined;

  /** Zero-filled memory for a value of this type. */
  constructor(allocator: Allocator, type: ValueType, purpose: string) {
    this.type = type;
    this.byteLength = storedBytes(type);
    this.#allocator = allocator;
    this.#address = allocator.allocate(this.byteLength, purpose);
    clearValue(allocator.memory.buffer, this.#address, type);
  }

  /** Address in `allocator`'s memory; throws when the buffer lies in another memory or was disposed. */
  addressIn(allocator: Allocator): number {
    if (allocator === this.#allocator && this.#address !== undefined) return this.#address;
    const problem =
      this.#address === undefined ? 'a buffer is used after dispose' : 'a buffer belongs to another wasm backend';
    throw userError({
      code: 'foreign-buffer',
      op: 'compile',
      problem,
      got: printType(this.type),
      fix: 'upload the tensor with the backend that compiles the graph',
    });
  }

  dispose(): void {
    if (this.#address !== undefined) this.#allocator.free(this.#address);
    this.#address = undefined;
  }
}

/** The address of a bound buffer; memory of another backend is refused. */
export function bufferAddress(name: string, buffer: Buffer, allocator: Allocator): number {
  if (buffer instanceof WasmBuffer) return buffer.addressIn(allocator);
  throw userError({
    code: 'foreign-buffer',
    op: 'compile',
    problem: `${name} is bound to memory of another backend`,
    fix: 'upload it with the backend that compiles the graph',
  });
}

/** Copies a host tensor to an address of its stored layout; f64 values are rounded to f32. */
export function writeTensor(memory: ArrayBufferLike, address: number, tensor: AnyTensor): void {
  if (tensor.kind === 'packed') {
    writePacked(memory, address, tensor.data);
    return;
  }
  const count = elementCount(tensor.shape);
  const view =
    tensor.dtype === 'i32' ? new Int32Array(memory, address, count) : new Float32Array(memory, address, count);
  view.set(tensor.data);
}

/** How kernels see a value of this type at an address. */
export function operandAt(type: ValueType, address: number): Operand {
  if (type.dtype === 'packed') return packedOperand(type, address);
  return { dtype: type.dtype, shape: type.shape, address };
}
