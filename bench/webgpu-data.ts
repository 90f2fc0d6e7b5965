// Operands of the kernel benchmarks: the same numbers in every run, and the first rows the same for any number of rows.

import type { Quantized } from '../src/formats/format.ts';
import { quantize } from '../src/formats/quantize.ts';
import { parseFormat } from '../src/formats/registry.ts';
import { elementCount, type Shape } from '../src/tensor/shape.ts';
import { type QTensor, qtensor, type Tensor, tensorF32 } from '../src/tensor/tensor.ts';

/**
 * Numbers from -1 to 1, roughly normal at a quarter; the first is 1, the largest, so that scales of the whole tensor do
 * not depend on the number of rows.
 */
export function values(shape: Shape, seed: number): Float32Array {
  let state = (seed * 2654435761) >>> 0;
  const next = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state >>> 8) / 2 ** 24 - 0.5;
  };
  const data = Float32Array.from({ length: elementCount(shape) }, () => (next() + next() + next() + next()) / 2);
  data[0] = 1;
  return data;
}

export const dense = (shape: Shape, seed: number): Tensor => tensorF32(shape, values(shape, seed));

/** The first columns of a matrix, which are the first rows of its transpose. */
export function firstColumns({ shape: [rows, cols], data }: Tensor, count: number): Tensor {
  if (count === cols) return tensorF32([rows, cols], data as Float32Array);
  const at = (i: number) => Math.floor(i / count) * cols + (i % count);
  return tensorF32(
    [rows, count],
    Float32Array.from({ length: rows * count }, (_, i) => data[at(i)]),
  );
}

/** Rows from the 257th on repeat: quantizing on the host would take minutes otherwise. */
export function packed(shape: Shape, seed: number, format: string): QTensor {
  const [rows, cols] = shape;
  const distinct = Math.min(rows, 256);
  const q = quantize(values([distinct, cols], seed), distinct, cols, parseFormat(format));
  const perRow = (part: Uint8Array) => part.length / distinct;
  const repeat = (part: Uint8Array) => {
    if (!Number.isInteger(perRow(part))) return part; // a scale of the whole tensor
    const out = new Uint8Array(perRow(part) * rows);
    for (let at = 0; at < out.length; at += part.length) out.set(part.subarray(0, out.length - at), at);
    return out;
  };
  return qtensor(shape, {
    ...q,
    rows,
    codes: repeat(q.codes),
    scales: repeat(q.scales),
    zeroPoints: q.zeroPoints && repeat(q.zeroPoints),
  });
}

/** The codes of a matrix of 16-bit numbers, column after column. */
export function columns16({ rows, cols, codes }: Quantized): Uint16Array {
  const from = new Uint16Array(codes.buffer, codes.byteOffset, rows * cols);
  return Uint16Array.from({ length: rows * cols }, (_, i) => from[(i % rows) * cols + Math.floor(i / rows)]);
}
