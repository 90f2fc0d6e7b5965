// Where the parts of a packed value lie in one piece of memory, for backends that own their memory.
//
// Codes, scales, zero points, tensor scale (one f32; present in every packed value, 1 where the format has none), each
// part at a multiple of the backend's alignment. Sizes follow from format and shape alone, so that the memory plan
// knows them before any value exists.

import { partBytes } from '../formats/empty.ts';
import type { Format, Quantized } from '../formats/format.ts';

export interface PackedLayout {
  readonly codesBytes: number;
  readonly scalesBytes: number;
  readonly zeroPointsBytes: number;
  /** Offsets from the start of the block. */
  readonly scales: number;
  readonly zeroPoints: number;
  readonly tensorScale: number;
  readonly byteLength: number;
}

/** The layout of a [rows, cols] matrix; parts and the whole are multiples of `alignment` bytes. */
export function packedLayout(format: Format, rows: number, cols: number, alignment: number): PackedLayout {
  const aligned = (bytes: number) => Math.ceil(bytes / alignment) * alignment;
  const [codesBytes, scalesBytes, zeroPointsBytes] = partBytes(format, rows, cols);
  const scales = aligned(codesBytes);
  const zeroPoints = scales + aligned(scalesBytes);
  const tensorScale = zeroPoints + aligned(zeroPointsBytes);
  const byteLength = aligned(tensorScale + 4);
  return { codesBytes, scalesBytes, zeroPointsBytes, scales, zeroPoints, tensorScale, byteLength };
}

/** Copies the parts of a quantized matrix to their places in `bytes`, which starts at the value's first byte. */
export function writeParts(bytes: Uint8Array, layout: PackedLayout, q: Quantized): void {
  const expected = [layout.codesBytes, layout.scalesBytes, layout.zeroPointsBytes];
  const found = [q.codes, q.scales, q.zeroPoints ?? new Uint8Array(0)];
  found.forEach((part, i) => {
    if (part.byteLength !== expected[i])
      throw new Error(
        `upload: ${part.byteLength} bytes of ${['codes', 'scales', 'zero points'][i]}, expected ${expected[i]}`,
      );
  });
  bytes.set(q.codes);
  bytes.set(q.scales, layout.scales);
  if (q.zeroPoints) bytes.set(q.zeroPoints, layout.zeroPoints);
  bytes.set(new Uint8Array(Float32Array.of(q.tensorScale).buffer), layout.tensorScale);
}
