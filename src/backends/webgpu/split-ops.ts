// Ops on pieces of a split weight (split-buffer.ts), which only rewritten graphs have.
//
// Their names begin with the op that they are a part of, up to the slash: errors name that. `total` is the length of the
// split axis, `first` where the piece begins.

import type { OpDefinition, ValueType } from '../../graph/graph.ts';
import { embeddingOp } from '../../graph/ops/embedding.ts';
import { f32, i32 } from '../../graph/value-type.ts';

export interface PieceAttributes {
  readonly first: number;
  readonly total: number;
}

/** table piece, ids → [..., C]: zeros for the ids of other pieces. An id outside 0 … total−1 is an error. */
export const embeddingFirstOp: OpDefinition<PieceAttributes> = {
  name: 'embedding/first',
  infer: (inputs) => embeddingOp.infer(inputs, {}),
};

/** table piece, ids, y so far → y with the rows of this piece (same memory). */
export const embeddingNextOp: OpDefinition<PieceAttributes> = {
  name: 'embedding/next',
  inPlace: { 0: 2 },
  infer: (inputs) => embeddingOp.infer(inputs, {}),
};

/** Numbers that a row and a span of the vocabulary leave: maximum, sum of exponentials, logit of the target. */
export const partialNumbers = 3;

export interface CrossEntropyPieceAttributes extends PieceAttributes {
  /** Words of a span of the vocabulary. */
  readonly span: number;
}

/** hidden [N, C], weight piece [v, C], targets i32 [N] → [N, 3 · ⌈v / span⌉]. */
export const crossEntropyPieceOp: OpDefinition<CrossEntropyPieceAttributes> = {
  name: 'crossEntropy/piece',
  infer: ([hidden, weight], { span }) => [f32([hidden.shape[0], partialNumbers * Math.ceil(weight.shape[0] / span)])],
};

/** targets i32 [N], what all pieces left [N, 3 · spans] → nll [N]. */
export const crossEntropyJoinOp: OpDefinition<Pick<PieceAttributes, 'total'>> = {
  name: 'crossEntropy/join',
  infer: ([targets]) => [f32(targets.shape)],
};

export interface ExpertPieceAttributes extends PieceAttributes {
  readonly count: number;
}

/** indices i32 [N, k] → places in the piece; experts of other pieces are spread over it. */
export const expertPlacesOp: OpDefinition<ExpertPieceAttributes> = {
  name: 'expertMatmul/places',
  infer: ([indices]) => [i32(indices.shape)],
};

/** products with a piece [N, k, M], indices i32 [N, k], y so far → y with the slots of this piece (same memory). */
export const expertNextOp: OpDefinition<ExpertPieceAttributes> = {
  name: 'expertMatmul/next',
  inPlace: { 0: 2 },
  infer: ([products]): ValueType[] => [products],
};
