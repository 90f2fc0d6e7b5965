// Scratch memory of a node, cut into arrays that kernels bind one by one.

import { alignedBytes } from './constants.ts';
import type { Binding, ElementType, MemoryRange } from './kernel.ts';

/** Bytes of arrays of so many 32-bit words, each at a place where a binding may start. */
export const scratchSize = (words: readonly number[]) => words.reduce((sum, n) => sum + alignedBytes(4 * n), 0);

/** The arrays themselves, in order. */
export function cutScratch(scratch: MemoryRange | undefined, words: readonly number[]): MemoryRange[] {
  if (!scratch) throw new Error('webgpu: a node has no scratch memory');
  let { offset } = scratch;
  return words.map((n) => {
    const range = { buffer: scratch.buffer, offset, bytes: alignedBytes(4 * n) };
    offset += range.bytes;
    return range;
  });
}

/** Binds scratch memory that the kernel writes, or reads and writes. */
export const toScratch = (range: MemoryRange, type: ElementType = 'f32'): Binding => ({ range, access: 'write', type });

/** Binds scratch memory that an earlier command of the node has filled. */
export const fromScratch = (range: MemoryRange, type: ElementType = 'f32'): Binding => ({
  range,
  access: 'read',
  type,
});
