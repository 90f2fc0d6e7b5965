// Gradients of crossEntropy and compareLogits.
//
// crossEntropyBackward: with z = H Wᵀ, n the normalizers and G = dnll · (e^(z − n) − onehot), dH = G W and dW = Gᵀ H.
// G exists in pieces of up to 512 rows × 1024 entries, which all threads share: a piece is computed, then both products
// take it, each in the tiles of the matrix products. The vocabulary is the outer loop, so that a packed weight is
// decoded once. The normalizer of a row is nll + H[n]·W[target], without a pass over the vocabulary.
// Thread map: columns of G; rows or columns of dH and dW, whichever are more. Barriers separate the pieces.
//
// Scratch: normalizers [N], G, 1024 decoded rows of a packed weight; per thread that of the matrix product, one decoded
// row, and the words of three products.

import { targetError } from '../../../data-error-codes';
import { address, at, loadOne, storeOne, word } from '../common/args';
import { barrier } from '../common/barrier';
import { exp4 } from '../common/math';
import { shareEnd, shareStart } from '../common/share';
import { reportError } from './error';
import { divergence, logSum } from './losses';
import { decodeRow, sourceAcross, sourceAlong, sourceKind } from './matmul-decode';
import { product, threadScratch } from './matmul-f32';
import { tileColumns, tileRows } from './matmul-tile';
import { dotRow, maxRow } from './rows';

const pieceRows: i32 = 512;
const pieceEntries: i32 = 1024;

/** The words of matmulF32 that `product` reads. */
// @ts-ignore: decorator
@inline
function describe(words: usize, depth: i32, lineA: usize, acrossA: bool, lineB: usize, lineC: usize, kind: i32): void {
  store<i32>(words, depth, 12);
  store<usize>(words, lineA, 20);
  store<i32>(words, acrossA ? 1 : 0, 24);
  store<usize>(words, lineB, 36);
  store<usize>(words, lineC, 48);
  store<i32>(words, kind, 64);
}

/** A thread's part of C (+)= A B: columns where there are more of them than rows, else rows. */
function productShare(
  words: usize,
  a: usize,
  b: usize,
  c: usize,
  rows: i32,
  columns: i32,
  own: usize,
  add: bool,
  thread: i32,
  threads: i32,
): void {
  let m0 = 0;
  let m1 = rows;
  let n0 = 0;
  let n1 = columns;
  if (columns >= rows) {
    n0 = shareStart(columns, tileColumns, thread, threads);
    n1 = shareEnd(columns, tileColumns, thread, threads);
  } else {
    m0 = shareStart(rows, tileRows, thread, threads);
    m1 = shareEnd(rows, tileRows, thread, threads);
  }
  if (m0 < m1 && n0 < n1) product(words, a, b, 0, c, m0, m1, n0, n1, own, 0, 1, add);
}

/** A row of logits into a row of G: factor · (e^(z − normalizer) − onehot). `target` is relative to the row. */
function gradientRow(z: usize, count: i32, normalizer: f32, factor: f32, target: i32): void {
  const shift = f32x4.splat(normalizer);
  const f = f32x4.splat(factor);
  let i = 0;
  for (; i + 4 <= count; i += 4)
    v128.store(at(z, i), f32x4.mul(exp4(f32x4.sub(v128.load(at(z, i)), shift)), f));
  for (; i < count; i++) storeOne(at(z, i), f32x4.mul(exp4(f32x4.sub(loadOne(at(z, i)), shift)), f));
  if (target >= 0 && target < count) store<f32>(at(z, target), load<f32>(at(z, target)) - factor);
}

/**
 * Words: hidden, weight (dense; 0: packed), targets, nll, dnll, dhidden, dweight (0: none), N, V, C, normalizers, G,
 * decoded rows, scratch, scratch bytes of a thread, unused, then the source description of a packed weight.
 */
export function crossEntropyBackward(args: usize, thread: i32, threads: i32): void {
  const hidden = address(args, 0);
  const weight = address(args, 1);
  const targets = address(args, 2);
  const dnll = address(args, 4);
  const dhidden = address(args, 5);
  const dweight = address(args, 6);
  const rows = word(args, 7);
  const vocabulary = word(args, 8);
  const columns = word(args, 9);
  const normalizers = address(args, 10);
  const g = address(args, 11);
  const decoded = address(args, 12);
  const own = address(args, 13) + <usize>thread * address(args, 14);
  const source = args + 64;
  const line = (<usize>columns) << 2;
  const words = own + threadScratch;
  const row = words + 3 * 128;
  const lineG = (<usize>min(pieceEntries, vocabulary)) << 2;

  const last = shareEnd(rows, 1, thread, threads);
  for (let n = shareStart(rows, 1, thread, threads); n < last; n++) {
    const target = load<i32>(at(targets, n));
    if (target >= vocabulary) reportError(targetError, target);
    if (target < 0 || target >= vocabulary) continue;
    let entry = weight + <usize>target * line;
    if (weight == 0) decodeRow(source, target, 0, columns, (entry = row));
    const logit = dotRow(hidden + <usize>n * line, entry, columns);
    store<f32>(at(normalizers, n), <f32>(<f64>load<f32>(at(address(args, 3), n)) + logit));
  }

  for (let v = 0; v < vocabulary; v += pieceEntries) {
    const entries = min(pieceEntries, vocabulary - v);
    let piece = weight + <usize>v * line;
    if (weight == 0) {
      piece = decoded;
      const end = shareEnd(entries, 1, thread, threads);
      for (let i = shareStart(entries, 1, thread, threads); i < end; i++)
        decodeRow(source, v + i, 0, columns, decoded + <usize>i * line);
    }
    barrier(thread, threads);
    for (let n = 0; n < rows; n += pieceRows) {
      const count = min(pieceRows, rows - n);
      const from = hidden + <usize>n * line;
      // Logits and G of this thread's columns.
      const n0 = shareStart(entries, tileColumns, thread, threads);
      const n1 = shareEnd(entries, tileColumns, thread, threads);
      if (n0 < n1) {
        describe(words, columns, line, false, line, lineG, sourceAlong);
        product(words, from, piece, 0, g, 0, count, n0, n1, own, 0, 1, false);
        for (let i = 0; i < count; i++) {
          const target = load<i32>(at(targets, n + i));
          const z = at(g + <usize>i * lineG, n0);
          if (target < 0 || target >= vocabulary) memory.fill(z, 0, (<usize>(n1 - n0)) << 2);
          else
            gradientRow(
              z,
              n1 - n0,
              load<f32>(at(normalizers, n + i)),
              load<f32>(at(dnll, n + i)),
              target - v - n0,
            );
        }
      }
      barrier(thread, threads);
      describe(words + 128, entries, lineG, false, line, line, sourceAcross);
      const toHidden = dhidden + <usize>n * line;
      productShare(words + 128, g, piece, toHidden, count, columns, own, v > 0, thread, threads);
      if (dweight != 0) {
        describe(words + 256, count, lineG, true, line, line, sourceAcross);
        const toWeight = dweight + <usize>v * line;
        productShare(words + 256, g, from, toWeight, entries, columns, own, n > 0, thread, threads);
      }
      barrier(thread, threads);
    }
  }
}

/**
 * Words: p, q, targets, dy [N, 4], dp, dq, N, V. With P, Q the probabilities, δ = log P − log Q and D = Σ P δ:
 * dp = dy₀ (P − onehot) + dy₂ P (δ − D), dq = dy₁ (Q − onehot) + dy₂ (Q − P); a probability of 0 has δ = 0.
 */
export function compareLogitsBackward(args: usize, thread: i32, threads: i32): void {
  const count = word(args, 7);
  const rowBytes = (<usize>count) << 2;
  const end = shareEnd(word(args, 6), 1, thread, threads);
  for (let r = shareStart(word(args, 6), 1, thread, threads); r < end; r++) {
    const p = address(args, 0) + <usize>r * rowBytes;
    const q = address(args, 1) + <usize>r * rowBytes;
    const dy = address(args, 3) + (<usize>r << 4);
    const dp = address(args, 4) + <usize>r * rowBytes;
    const dq = address(args, 5) + <usize>r * rowBytes;
    const target = load<i32>(at(address(args, 2), r));
    if (target >= count) reportError(targetError, target);
    const known = target >= 0 && target < count;
    const mostP = maxRow(p, count);
    const mostQ = maxRow(q, count);
    const normP = logSum(p, count, mostP);
    const normQ = logSum(q, count, mostQ);
    const offset = normQ + <f64>mostQ - (normP + <f64>mostP);
    const mean = divergence(p, q, count, mostP, normP) + offset;
    const toP = known ? load<f32>(dy) : 0;
    const toQ = known ? load<f32>(dy, 4) : 0;
    const kl = f32x4.splat(load<f32>(dy, 8));
    const factorP = f32x4.splat(<f32>NativeMath.exp(-normP));
    const factorQ = f32x4.splat(<f32>NativeMath.exp(-normQ));
    const shiftP = f32x4.splat(mostP);
    const shiftQ = f32x4.splat(mostQ);
    const gap = f32x4.splat(<f32>(offset - mean));
    const zero = f32x4.splat(0);
    for (let i = 0; i < count; ) {
      const single = i + 4 > count;
      const a = single ? loadOne(at(p, i)) : v128.load(at(p, i));
      const b = single ? loadOne(at(q, i)) : v128.load(at(q, i));
      const probabilityP = f32x4.mul(exp4(f32x4.sub(a, shiftP)), factorP);
      const probabilityQ = f32x4.mul(exp4(f32x4.sub(b, shiftQ)), factorQ);
      const difference = f32x4.add(f32x4.sub(a, b), gap); // δ − D
      const weighted = v128.andnot(f32x4.mul(probabilityP, difference), f32x4.eq(probabilityP, zero));
      const gradientP = f32x4.add(f32x4.mul(f32x4.splat(toP), probabilityP), f32x4.mul(kl, weighted));
      const apart = f32x4.mul(kl, f32x4.sub(probabilityQ, probabilityP));
      const gradientQ = f32x4.add(f32x4.mul(f32x4.splat(toQ), probabilityQ), apart);
      if (single) {
        storeOne(at(dp, i), gradientP);
        storeOne(at(dq, i), gradientQ);
      } else {
        v128.store(at(dp, i), gradientP);
        v128.store(at(dq, i), gradientQ);
      }
      i += single ? 1 : 4;
    }
    if (known) {
      store<f32>(at(dp, target), load<f32>(at(dp, target)) - toP);
      store<f32>(at(dq, target), load<f32>(at(dq, target)) - toQ);
    }
  }
}
