// The WASM backend: SIMD kernels on all cores over one shared memory.

import type { Graph, ValueType } from '../../graph/graph.ts';
import { printType, typeOfTensor } from '../../graph/value-type.ts';
import type { AnyTensor } from '../../tensor/tensor.ts';
import type { Backend, Bindings, Buffer, Executable } from '../backend.ts';
import { checkBindings, checkKernels } from '../bindings.ts';
import { WasmBuffer, writeTensor } from './buffer.ts';
import { encoders } from './encoders.ts';
import { WasmExecutable } from './executable.ts';
import { createPool, type PoolOptions } from './pool.ts';

/** A Backend that also tells how much of its memory is in use. */
export interface WasmBackend extends Backend {
  /** Bytes of buffers and executables that are not disposed. */
  readonly usedBytes: number;
}

/**
 * Starts the threads and reserves the address space. Results do not depend on the number of threads.
 *
 * Throws a device error when the kernels are not built, the engine lacks relaxed SIMD, or, later, when memory runs out.
 *
 * @example
 * const backend = await createWasmBackend({ threads: 2 });
 * const run = await backend.compile(graph, { params: new Map([['w', await backend.upload(weight)]]) });
 * run.write('x', values);
 * run.run();
 * const y = await run.read('y');
 */
export async function createWasmBackend(options: PoolOptions = {}): Promise<WasmBackend> {
  const pool = await createPool('engine', options);
  const { allocator, memory, threads } = pool;
  return {
    name: 'wasm',
    description: `wasm, ${threads} ${threads === 1 ? 'thread' : 'threads'}, relaxed SIMD`,
    get usedBytes() {
      return allocator.usedBytes;
    },
    async upload(tensor: AnyTensor): Promise<Buffer> {
      const type = typeOfTensor(tensor);
      const buffer = new WasmBuffer(allocator, type, printType(type));
      writeTensor(memory.buffer, buffer.addressIn(allocator), tensor);
      return buffer;
    },
    allocate(type: ValueType): Buffer {
      return new WasmBuffer(allocator, type, printType(type));
    },
    async compile(graph: Graph, bindings: Bindings): Promise<Executable> {
      checkKernels(graph, 'wasm', (op) => encoders.has(op));
      checkBindings(graph, bindings);
      return new WasmExecutable(graph, bindings, pool);
    },
    dispose() {
      pool.dispose();
    },
  };
}
