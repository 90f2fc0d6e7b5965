// Many values in one dispatch: what kernels over lists of values share.
//
// A binding is a piece of one buffer, and a stage binds few of them. Values that lie in one buffer (neighbours in the
// arena, states that packBuffers laid side by side) are bound together as the smallest piece that holds them all, and a
// table tells each workgroup which part of which value is its own.

import type { MemoryRange } from './kernel.ts';

/** Vectors of four numbers that a workgroup of 256 threads takes: 4096 numbers, 16 KiB. */
export const chunkVectors = 1024;

/** `vectors` in pieces of at most chunkVectors. */
export function chunksOf(vectors: number): { start: number; count: number }[] {
  return Array.from({ length: Math.ceil(vectors / chunkVectors) }, (_, i) => {
    const start = i * chunkVectors;
    return { start, count: Math.min(chunkVectors, vectors - start) };
  });
}

/**
 * For each list of ranges of one buffer the smallest range that holds them; lists of the same buffer get the same range,
 * so that it is bound once.
 */
export function sharedRanges(lists: readonly (readonly MemoryRange[])[]): MemoryRange[] {
  const ends = new Map<GPUBuffer, [first: number, end: number]>();
  for (const { buffer, offset, bytes } of lists.flat()) {
    const [first, end] = ends.get(buffer) ?? [offset, offset + bytes];
    ends.set(buffer, [Math.min(first, offset), Math.max(end, offset + bytes)]);
  }
  return lists.map(([{ buffer }]) => {
    const [first, end] = ends.get(buffer)!;
    return { buffer, offset: first, bytes: end - first };
  });
}

const float = new Float32Array(1);

/** The bits of a number rounded to f32. */
export function floatBits(value: number): number {
  float[0] = value;
  return new Uint32Array(float.buffer)[0];
}
