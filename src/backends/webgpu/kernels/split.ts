// Ops on pieces of a split weight (split-ops.ts): kernels of the whole ops with bounds, and what puts pieces together.
//
// Thread map of expertMatmul's: one thread for each index or number. No workgroup memory, no features.

import { elementCount } from '../../../tensor/shape.ts';
import { expertIndexError } from '../../data-error-codes.ts';
import { forEachItem } from '../entry.ts';
import { dense, type KernelTable, type OpKernel, read, write } from '../kernel.ts';
import {
  type CrossEntropyPieceAttributes,
  type ExpertPieceAttributes,
  type PieceAttributes,
  partialNumbers,
} from '../split-ops.ts';
import { joinSpans, passSpans } from './cross-entropy.ts';
import { encodeEmbedding } from './tables.ts';

const attributesOf = <A>({ node }: { node: { attributes: object } }) => node.attributes as A;

const embeddingFirst: OpKernel = {
  encode: (context) => encodeEmbedding(context, { ...attributesOf<PieceAttributes>(context), others: 'zero' }),
};

const embeddingNext: OpKernel = {
  encode: (context) => encodeEmbedding(context, { ...attributesOf<PieceAttributes>(context), others: 'keep' }),
};

const crossEntropyPiece: OpKernel = {
  encode(context) {
    const { inputs, outputs } = context;
    const { first, span } = attributesOf<CrossEntropyPieceAttributes>(context);
    const [hidden, weight, targets] = [dense(inputs, 0), inputs[1], dense(inputs, 2)];
    return [passSpans({ hidden, weight, targets }, dense(outputs, 0).range, { first, span })];
  },
};

const crossEntropyJoin: OpKernel = {
  encode(context) {
    const [targets, parts, nll] = [dense(context.inputs, 0), dense(context.inputs, 1), dense(context.outputs, 0)];
    return [
      joinSpans(
        targets,
        parts.range,
        nll,
        attributesOf<PieceAttributes>(context).total,
        parts.shape[1] / partialNumbers,
      ),
    ];
  },
};

const expertPlaces: OpKernel = {
  encode(context) {
    const { first, count, total } = attributesOf<ExpertPieceAttributes>(context);
    const [indices, places] = [dense(context.inputs, 0), dense(context.outputs, 0)];
    return [
      {
        bindings: { indices: read(indices), places: write(places) },
        words: { first, count, total },
        reports: true,
        ...forEachItem(
          elementCount(indices.shape),
          (n) => `let index = ${n.indices}[i];
  if (u32(index) >= words.total) { report(${expertIndexError}u, index); }
  let place = u32(index) - words.first; /* wraps below the piece */
  ${n.places}[i] = i32(select(u32(index) % words.count, place, place < words.count));`,
        ),
      },
    ];
  },
};

const expertNext: OpKernel = {
  encode(context) {
    const { first, count } = attributesOf<ExpertPieceAttributes>(context);
    const [products, indices, y] = [dense(context.inputs, 0), dense(context.inputs, 1), dense(context.outputs, 0)];
    const M = y.shape[y.shape.length - 1];
    return [
      {
        bindings: { products: read(products, 'u32'), indices: read(indices), y: write(y, 'u32') },
        words: { M, first, count },
        ...forEachItem(
          elementCount(y.shape),
          (n) => `if (u32(${n.indices}[i / words.M]) - words.first < words.count) { ${n.y}[i] = ${n.products}[i]; }`,
        ),
      },
    ];
  },
};

export const splitKernels: KernelTable = {
  'embedding/first': embeddingFirst,
  'embedding/next': embeddingNext,
  'crossEntropy/piece': crossEntropyPiece,
  'crossEntropy/join': crossEntropyJoin,
  'expertMatmul/places': expertPlaces,
  'expertMatmul/next': expertNext,
};
