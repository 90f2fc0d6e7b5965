// Attention over a cache whose older part is packed (op kvAttention); the method and the tiles are attention.ts's.
//
// A task decodes a block of at most 64 keys into scratch, from the packed copy, from the ring of exact tokens, or both
// where its queries see different ones: then the scores of both are computed and each row takes its own. Likewise the
// weights of a row are split between decoded and exact values. Keys per channel are decoded as they lie, transposed:
// D lines of 64 tokens, which is already the order that the register tile wants.
// No block spans the end of the sinks, so packed columns of a block are neighbours.
//
// Scratch per thread, in floats (D8: D rounded up to 8): Q 60·D8, O 60·D8, panels of Q 60·D, of K 64·D, of V 64·D8,
// P 60·64 twice, one panel of P 6·64, maxima and sums 120, the decoded block 64·D8.

import { cacheRangeError } from '../../../data-error-codes';
import { address, at, real, word } from '../common/args';
import {
  blockKeys,
  blockRows,
  fewRows,
  lineBytes,
  loadRows,
  packRows,
  scoresInPlace,
  scoresPacked,
  softmaxStep,
  storeRows,
  valuesInPlace,
  valuesPacked,
} from './attention';
import { reportError } from './error';
import { ringRow } from './layout';
import { decodeRow } from './matmul-decode';
import { packAcross, packLines8 } from './matmul-panels';

/** Scores of few rows against transposed keys (D lines of 64 tokens): p[m][s] = Σ_d q[m][d] kt[d][s]. */
function scoresAcross(q: usize, qBytes: usize, rows: i32, kt: usize, size: i32, p: usize): void {
  for (let m = 0; m < rows; m++) {
    const row = q + <usize>m * qBytes;
    const out = p + <usize>m * lineBytes;
    for (let s: usize = 0; s < lineBytes; s += 64) {
      let a0 = f32x4.splat(0);
      let a1 = a0;
      let a2 = a0;
      let a3 = a0;
      let from = kt + s;
      for (let d = 0; d < size; d++) {
        const w = v128.load32_splat(at(row, d));
        a0 = f32x4.relaxed_madd(w, v128.load(from), a0);
        a1 = f32x4.relaxed_madd(w, v128.load(from, 16), a1);
        a2 = f32x4.relaxed_madd(w, v128.load(from, 32), a2);
        a3 = f32x4.relaxed_madd(w, v128.load(from, 48), a3);
        from += lineBytes;
      }
      v128.store(out + s, a0);
      v128.store(out + s, a1, 16);
      v128.store(out + s, a2, 32);
      v128.store(out + s, a3, 48);
    }
  }
}

/** Tokens s … s+keys−1 of one head from the ring, as lines of D floats. */
function copyRecent(ring: usize, s: i32, keys: i32, width: i32, sinks: i32, tokenBytes: usize, headBytes: usize, to: usize): void {
  for (let i = 0; i < keys; i++) {
    memory.copy(to, ring + <usize>ringRow(s + i, width, sinks) * tokenBytes, headBytes);
    to += headBytes;
  }
}

/** The same from a packed matrix [tokens · heads, D], rows row, row + heads, …; lines that are not decoded are zero. */
function decodeTokens(source: usize, row: i32, heads: i32, decoded: i32, keys: i32, size: i32, to: usize): void {
  const headBytes = (<usize>size) << 2;
  for (let i = 0; i < decoded; i++) {
    decodeRow(source, row, 0, size, to);
    row += heads;
    to += headBytes;
  }
  memory.fill(to, 0, <usize>(keys - decoded) * headBytes);
}

/** Scores of a block of keys that lie as lines of D floats. */
function scoresOfLines(q: usize, qp: usize, rows: i32, tile: usize, kp: usize, keys: i32, size: i32, p: usize): void {
  const headBytes = (<usize>size) << 2;
  const line8 = (<usize>((size + 7) & ~7)) << 2;
  if (rows <= fewRows) {
    scoresInPlace(q, line8, rows, tile, headBytes, keys, size, p);
    return;
  }
  for (let j = 0; j < keys; j += 8)
    packLines8(tile + <usize>j * headBytes, headBytes, min(8, keys - j), size, kp + ((<usize>(j * size)) << 2));
  scoresPacked(qp, rows, kp, keys, size, p, keys, 1);
}

/** O += P V for a block of values that lie as lines of D floats. */
function addValues(p: usize, rows: i32, tile: usize, vp: usize, keys: i32, size: i32, o: usize, panel: usize): void {
  const headBytes = (<usize>size) << 2;
  const line8 = (<usize>((size + 7) & ~7)) << 2;
  if (rows <= fewRows) {
    valuesInPlace(p, rows, tile, headBytes, keys, size, o, line8);
    return;
  }
  for (let d = 0; d < size; d += 8)
    packAcross(at(tile, d), headBytes, min(8, size - d), 8, keys, vp + ((<usize>(d * keys)) << 2));
  valuesPacked(p, rows, vp, keys, size, o, line8, panel, keys, 1);
}

/** How many keys of a block from s on lie before `end`; none among the sinks. */
// @ts-ignore: decorator
@inline
function packedCount(s: i32, keys: i32, end: i32, sinks: i32): i32 {
  return s < sinks ? 0 : max(0, min(keys, end - s));
}

/**
 * Words: q, start (address of one i32; 0: none), out, recent keys, recent values, B, T, H, D, S, G, W, scale, window,
 * keys per channel (0 or 1), block, residual, sinks, scratch, its bytes for a thread, offsets in bytes of the source
 * descriptions of keys and values from the start of the words.
 */
export function kvAttention(args: usize, thread: i32, threads: i32): void {
  const startAddress = address(args, 1);
  const start = startAddress == 0 ? 0 : load<i32>(startAddress);
  const batch = word(args, 5);
  const tokens = word(args, 6);
  const heads = word(args, 7);
  const size = word(args, 8);
  const capacity = word(args, 9);
  const groups = word(args, 10);
  const width = word(args, 11);
  const scale = f32x4.splat(real(args, 12));
  const window = word(args, 13);
  const perChannel = word(args, 14) != 0;
  const block = word(args, 15);
  const residual = word(args, 16);
  const sinks = word(args, 17);
  const keySource = args + address(args, 20);
  const valueSource = args + address(args, 21);

  if (start < 0 || start > capacity - tokens) {
    if (thread == 0) reportError(cacheRangeError, start);
    return;
  }

  const share = heads / groups;
  const size8 = (size + 7) & ~7;
  const line8 = (<usize>size8) << 2;
  const headBytes = (<usize>size) << 2;
  const tokenBytes = headBytes * <usize>groups;
  const q = address(args, 18) + <usize>thread * address(args, 19);
  const o = q + line8 * blockRows;
  const qp = o + line8 * blockRows;
  const kp = qp + headBytes * blockRows;
  const vp = kp + headBytes * blockKeys;
  const p = vp + line8 * blockKeys;
  const other = p + <usize>blockRows * lineBytes;
  const panel = other + <usize>blockRows * lineBytes;
  const stats = panel + 6 * lineBytes;
  const tile = stats + 8 * blockRows;

  const allRows = tokens * share;
  const blocks = (allRows + blockRows - 1) / blockRows;
  const tasks = batch * groups * blocks;
  for (let task = thread; task < tasks; task += threads) {
    // The last blocks see the most keys; they go first.
    const index = blocks - 1 - task / (batch * groups);
    const b = (task % (batch * groups)) / groups;
    const g = task % groups;
    const firstRow = index * blockRows;
    const rows = min(blockRows, allRows - firstRow);
    const firstPosition = start + firstRow / share;
    const lastPosition = start + (firstRow + rows - 1) / share;
    const keyEnd = lastPosition + 1;
    const firstKeysEnd = sinks + (max(0, firstPosition - sinks) / block) * block;
    const lastKeysEnd = sinks + (max(0, lastPosition - sinks) / block) * block;
    const recentHead = (<usize>b * <usize>width) * tokenBytes + <usize>g * headBytes;
    const recentKeys = address(args, 3) + recentHead;
    const recentValues = address(args, 4) + recentHead;
    const few = rows <= fewRows;

    const head = b * tokens * heads + g * share;
    loadRows(address(args, 0), head, heads, share, firstRow, rows, size, scale, q, stats);
    memory.fill(o, 0, line8 * blockRows);
    if (!few) packRows(q, rows, size, qp);

    let s = window > 0 ? max(0, firstPosition - window + 1) : 0;
    // Columns of packed keys are decoded eight at a time.
    if (s > sinks) s = sinks + ((s - sinks) & ~7);
    while (s < keyEnd) {
      const keys = min(blockKeys, (s < sinks ? min(sinks, keyEnd) : keyEnd) - s);
      const someKeys = packedCount(s, keys, lastKeysEnd, sinks);
      const allKeys = packedCount(s, keys, firstKeysEnd, sinks);
      if (someKeys > 0) {
        if (perChannel) {
          const row = (b * groups + g) * size;
          for (let d = 0; d < size; d++)
            decodeRow(keySource, row + d, s - sinks, someKeys, tile + <usize>d * lineBytes);
          if (few) scoresAcross(q, line8, rows, tile, size, p);
          else {
            for (let j = 0; j < keys; j += 8) packAcross(at(tile, j), lineBytes, 8, 8, size, kp + ((<usize>(j * size)) << 2));
            scoresPacked(qp, rows, kp, keys, size, p, keys, 1);
          }
        } else {
          decodeTokens(keySource, (b * capacity + s) * groups + g, groups, someKeys, keys, size, tile);
          scoresOfLines(q, qp, rows, tile, kp, keys, size, p);
        }
      }
      if (allKeys < keys) {
        const to = someKeys > 0 ? other : p;
        copyRecent(recentKeys, s, keys, width, sinks, tokenBytes, headBytes, tile);
        scoresOfLines(q, qp, rows, tile, kp, keys, size, to);
        if (someKeys > 0) {
          for (let m = 0; m < rows; m++) {
            const position = start + (firstRow + m) / share;
            const line = <usize>m * lineBytes;
            const own = packedCount(s, keys, sinks + (max(0, position - sinks) / block) * block, sinks);
            for (let i = own; i < keys; i++) store<f32>(at(p + line, i), load<f32>(at(other + line, i)));
          }
        }
      }

      for (let m = 0; m < rows; m++) {
        const position = start + (firstRow + m) / share;
        const high = min(keys, position + 1 - s);
        const low = window > 0 ? min(max(0, position - window + 1 - s), keys) : 0;
        const line = p + <usize>m * lineBytes;
        softmaxStep(line, low, max(0, high), keys, stats + (<usize>m << 3), o + <usize>m * line8, line8);
      }

      const someValues = packedCount(s, keys, lastPosition - residual, sinks);
      const allValues = packedCount(s, keys, firstPosition - residual, sinks);
      const mixed = someValues > 0 && allValues < keys;
      if (mixed) {
        const padded = (keys + 7) & ~7;
        for (let m = 0; m < rows; m++) {
          const position = start + (firstRow + m) / share;
          const line = <usize>m * lineBytes;
          const own = packedCount(s, keys, position - residual, sinks);
          for (let i = 0; i < padded; i++) {
            store<f32>(at(other + line, i), i < own ? 0 : load<f32>(at(p + line, i)));
            if (i >= own) store<f32>(at(p + line, i), 0);
          }
        }
      }
      if (someValues > 0) {
        decodeTokens(valueSource, (b * capacity + s) * groups + g, groups, someValues, keys, size, tile);
        addValues(p, rows, tile, vp, keys, size, o, panel);
      }
      if (allValues < keys) {
        copyRecent(recentValues, s, keys, width, sinks, tokenBytes, headBytes, tile);
        addValues(mixed ? other : p, rows, tile, vp, keys, size, o, panel);
      }
      s += keys;
    }
    storeRows(address(args, 2), head, heads, share, firstRow, rows, size, o, stats);
  }
}
