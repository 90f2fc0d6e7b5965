// Weights larger than a binding: cut along their first axis into pieces that kernels can bind.
//
// Devices bind 128 MiB at a time unless they say otherwise (the default limit of WebGPU), less than many an embedding
// table. Pieces are whole rows, or whole experts of a stack, in multiples of 1024 or 64 where so many fit, so that tiles
// and spans of kernels stay whole; rows that share a scale stay together. split-graph.ts rewrites the graphs that read them.
// It does not do: activations and states, which stay errors (buffer.ts).

import { partBytes } from '../../formats/empty.ts';
import type { Format, Quantized } from '../../formats/format.ts';
import type { ValueType } from '../../graph/graph.ts';
import { typeOfTensor } from '../../graph/value-type.ts';
import type { AnyTensor } from '../../tensor/tensor.ts';
import type { Buffer } from '../backend.ts';
import { storedBytes } from './buffer.ts';
import { rowsAndColumns } from './kernel.ts';

/** Entries first … first + count − 1 of the first axis. */
export interface Piece {
  readonly first: number;
  readonly count: number;
}

/** Spans of crossEntropy, then tiles of kernels, are this long or divide it. */
const evenRows = [1024, 64, 1];

export const pieceType = (type: ValueType, { count }: Piece): ValueType => ({
  ...type,
  shape: [count, ...type.shape.slice(1)],
});

/** The pieces of at most `limit` bytes that a value is cut into; undefined when it fits whole or cannot be cut. */
export function cutRows(type: ValueType, limit: number): readonly Piece[] | undefined {
  if (storedBytes(type) <= limit || type.shape.length < 2) return undefined;
  const [total] = type.shape;
  const fits = (count: number) => storedBytes(pieceType(type, { first: 0, count })) <= limit;
  const unit = sharedRows(type);
  if (!fits(unit)) return undefined;
  let [low, high] = [unit, total];
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2);
    if (fits(middle)) low = middle;
    else high = middle;
  }
  const step = evenRows.map((rows) => rows * unit).find((rows) => rows <= low)!;
  const most = Math.floor(low / step) * step;
  return Array.from({ length: Math.ceil(total / most) }, (_, i) => ({
    first: i * most,
    count: Math.min(most, total - i * most),
  }));
}

/** Entries of the first axis that must stay together because a scale covers them. */
function sharedRows(type: ValueType): number {
  if (type.dtype !== 'packed') return 1;
  const rows = tileRows(type.format);
  const perEntry = rowsAndColumns(type.shape)[0] / type.shape[0];
  for (let entries = 1; ; entries++) if ((entries * perEntry) % rows === 0) return entries;
}

const tileRows = (format: Format) =>
  format.kind === 'quant' && format.granularity.kind === 'tile' ? format.granularity.rows : 1;

/** The part of a tensor that a piece holds; shares the tensor's memory. */
function sliceTensor(tensor: AnyTensor, { first, count }: Piece): AnyTensor {
  const shape = [count, ...tensor.shape.slice(1)];
  const [rows, columns] = rowsAndColumns(tensor.shape);
  const perEntry = rows / tensor.shape[0];
  if (tensor.kind === 'packed')
    return { kind: 'packed', shape, data: sliceRows(tensor.data, first * perEntry, count * perEntry) };
  const size = perEntry * columns;
  return { ...tensor, shape, data: tensor.data.subarray(first * size, (first + count) * size) };
}

function sliceRows(q: Quantized, first: number, count: number): Quantized {
  const { format, cols } = q;
  const before = first === 0 ? [0, 0, 0] : partBytes(format, first, cols);
  const bytes = partBytes(format, count, cols);
  // one scale for the whole tensor is in every piece
  const shared = format.kind === 'quant' && format.granularity.kind === 'tensor';
  const cut = (part: Uint8Array, i: number) =>
    shared && i > 0 ? part : part.subarray(before[i], before[i] + bytes[i]);
  return {
    ...q,
    rows: count,
    codes: cut(q.codes, 0),
    scales: cut(q.scales, 1),
    zeroPoints: q.zeroPoints && cut(q.zeroPoints, 2),
  };
}

/** A weight in pieces; each is memory of its own. */
export class SplitBuffer implements Buffer {
  readonly type: ValueType;
  readonly pieces: readonly Piece[];
  readonly buffers: readonly Buffer[];

  constructor(type: ValueType, pieces: readonly Piece[], buffers: readonly Buffer[]) {
    this.type = type;
    this.pieces = pieces;
    this.buffers = buffers;
  }

  get byteLength(): number {
    return this.buffers.reduce((sum, { byteLength }) => sum + byteLength, 0);
  }

  dispose(): void {
    for (const buffer of this.buffers) buffer.dispose();
  }
}

/** Uploads the pieces of a tensor one by one; those that are there are freed when one fails. */
export async function uploadPieces(
  tensor: AnyTensor,
  pieces: readonly Piece[],
  upload: (piece: AnyTensor) => Promise<Buffer>,
): Promise<SplitBuffer> {
  const buffers: Buffer[] = [];
  const split = new SplitBuffer(typeOfTensor(tensor), pieces, buffers);
  try {
    for (const piece of pieces) buffers.push(await upload(sliceTensor(tensor, piece)));
  } catch (error) {
    split.dispose();
    throw error;
  }
  return split;
}
