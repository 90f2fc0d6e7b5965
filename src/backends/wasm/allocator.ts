// Memory inside one WebAssembly.Memory.
//
// First-fit allocation with coalescing of freed neighbours; blocks are aligned to 64 bytes (one cache line, so that no
// two threads write one line by accident). The memory grows on demand up to its maximum and, being a WebAssembly
// memory, never shrinks. Allocations are few and long-lived (weights, arenas), so the lists are plain sorted arrays.

import { deviceError } from '../../errors.ts';

export const alignment = 64;
const pageBytes = 65536;
/** Static data of the kernels and the control block of the pool live below this address. */
export const firstAddress = 1 << 20;

/** `bytes` rounded up to the allocation unit. */
export function alignedBytes(bytes: number): number {
  return Math.ceil(bytes / alignment) * alignment;
}

interface Range {
  start: number;
  end: number;
}

export interface Allocator {
  readonly memory: WebAssembly.Memory;
  /** Bytes handed out and not freed, each allocation rounded up to 64. */
  readonly usedBytes: number;
  /** Address of at least `bytes` bytes (contents undefined). Throws a device error when memory is exhausted. */
  allocate(bytes: number, purpose?: string): number;
  /** Gives back an address from allocate. */
  free(address: number): void;
}

/**
 * An allocator over `memory` above its first MiB.
 *
 * @param maximumBytes Where growth stops; at most 4 GiB.
 * @example const a = createAllocator(memory, 2 ** 32); const p = a.allocate(1024); a.free(p);
 */
export function createAllocator(memory: WebAssembly.Memory, maximumBytes: number): Allocator {
  const limit = Math.min(maximumBytes, 65536 * pageBytes);
  const free: Range[] = [];
  const used = new Map<number, number>();
  let end = firstAddress;
  let usedBytes = 0;

  const fail = (bytes: number, purpose: string): never => {
    const largest = free.reduce((most, r) => Math.max(most, r.end - r.start), Math.max(0, limit - end));
    throw deviceError({
      code: 'wasm-out-of-memory',
      op: 'wasm',
      problem: `not enough memory for ${purpose}`,
      got: `a request of ${bytes} bytes`,
      expected: `at most ${largest} bytes (${usedBytes} in use, limit ${limit})`,
      fix: 'use a shorter window, a smaller batch or a smaller format',
    });
  };

  const extend = (bytes: number, purpose: string): number => {
    const last = free.at(-1);
    const start = last?.end === end ? last.start : end;
    if (start + bytes > limit) fail(bytes, purpose);
    const missing = start + bytes - memory.buffer.byteLength;
    if (missing > 0) {
      try {
        memory.grow(Math.ceil(missing / pageBytes));
      } catch {
        fail(bytes, purpose);
      }
    }
    if (start !== end) free.pop();
    end = start + bytes;
    return start;
  };

  return {
    memory,
    get usedBytes() {
      return usedBytes;
    },
    allocate(bytes, purpose = 'a buffer') {
      const size = Math.max(alignment, alignedBytes(bytes));
      let start: number;
      const index = free.findIndex((r) => r.end - r.start >= size);
      if (index < 0) start = extend(size, purpose);
      else {
        const range = free[index];
        start = range.start;
        range.start += size;
        if (range.start === range.end) free.splice(index, 1);
      }
      used.set(start, size);
      usedBytes += size;
      return start;
    },
    free(address) {
      const size = used.get(address);
      if (size === undefined) throw new Error(`allocator: ${address} was not allocated`);
      used.delete(address);
      usedBytes -= size;
      let index = free.findIndex((r) => r.start > address);
      if (index < 0) index = free.length;
      const range = { start: address, end: address + size };
      if (free[index]?.start === range.end) range.end = free.splice(index, 1)[0].end;
      if (free[index - 1]?.end === range.start) free[index - 1].end = range.end;
      else free.splice(index, 0, range);
    },
  };
}
