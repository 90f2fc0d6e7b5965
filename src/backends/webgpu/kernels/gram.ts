// gramUpdate: sums of outer products of rows added to a state.
//
// A workgroup of 256 threads adds a tile of 64 × 64 numbers (wgsl/tile.ts), summed over all rows in order and then added
// once. Without a second operand, tiles wholly below the diagonal are left out. Routed rows are sorted by expert first
// (routes.ts). After a data error in the run nothing is added. No features.

import type { GramAttributes } from '../../../graph/ops/gram.ts';
import { elementCount } from '../../../tensor/shape.ts';
import { forEachGroup } from '../entry.ts';
import { type DenseOperand, dense, type KernelTable, type Names, type OpKernel, read, write } from '../kernel.ts';
import { cutScratch, scratchSize } from '../scratch.ts';
import { forEachSum, tileProduct, tileSide, tileSource, tilesOf, tileThreads } from '../wgsl/tile.ts';
import { findRows, placeSource, readRoutes, routeWords, sortRoutes } from './routes.ts';

const gramUpdate: OpKernel = {
  scratchBytes({ attributes, inputs }) {
    if (!(attributes as unknown as GramAttributes).routed) return 0;
    const indices = inputs[inputs.length - 1].type.shape;
    return scratchSize(routeWords(elementCount(indices), inputs[0].type.shape[0]));
  },
  encode({ node, inputs, outputs, scratch }) {
    const { cross, routed } = node.attributes as unknown as GramAttributes;
    const gram = dense(outputs, 0);
    const a = dense(inputs, 1);
    const b = cross ? dense(inputs, 2) : a;
    const K = gram.shape[gram.shape.length - 1];
    const across = tilesOf(K);
    const indices: DenseOperand | undefined = routed ? dense(inputs, inputs.length - 1) : undefined;
    const E = indices ? gram.shape[0] : 1;
    const [offsets, order] = indices ? cutScratch(scratch, routeWords(elementCount(indices.shape), E)) : [];
    // The row of a and b at depth k: the k-th of all, or of the expert's.
    const row = (n: Names, k: string) => {
      if (!indices) return k;
      const slot = `${n.order}[rows.y + ${k}]`;
      return a.shape.length === 3 ? slot : `(${slot} / ${indices.shape[1]}u)`;
    };
    const body = (n: Names) => `let expert = item / words.across / words.across;
  let m0 = item / words.across % words.across * ${tileSide}u;
  let n0 = item % words.across * ${tileSide}u;
  ${cross ? '' : 'if (n0 < m0) { return; }'}
  ${indices ? findRows(n.offsets, 'expert') : 'let rows = vec3u(0u, 0u, words.N);'}
  ${tileProduct(
    { element: (column, k) => `${n.a}[${row(n, k)} * words.K + ${column}]`, rows: 'words.K', kLast: false },
    { element: (column, k) => `${n.b}[${row(n, k)} * words.K + ${column}]`, rows: 'words.K', kLast: false },
    '(rows.z - rows.y)',
  )}
  if (failed()) { return; }
  ${forEachSum('words.K', 'words.K', `${n.gram}[(expert * words.K + row) * words.K + column] += sum;`)}`;
    const sums = {
      bindings: {
        gram: write(gram),
        a: read(a),
        b: read(b),
        ...(indices && readRoutes({ offsets, order })),
      },
      words: { N: a.shape[0], K, across },
      reports: true,
      ...forEachGroup(E * across * across, tileThreads, body, tileSource + placeSource),
    };
    return indices ? [sortRoutes(indices, E, { offsets, order }), sums] : [sums];
  },
};

export const gramKernels: KernelTable = { gramUpdate };
