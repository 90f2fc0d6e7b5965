// Gradients of attention. Probabilities are computed again for a chunk of query rows at a time, so T×S never exists.
//
// Thread map: a task is a batch entry and one query head, or all query heads of one key head, and belongs to one
// thread, which alone adds to its dk and dv. Rows r = t · lanes + head are taken in chunks of up to 60; for each:
//   P = softmax(Q Kᵀ),  dP = dO Vᵀ,  δ = Σ P dP,  dS = P (dP − δ)
//   dQ = scale · dS K,  dV += Pᵀ dO,  dK += dSᵀ Q        (Q holds the queries times the scale)
// All five products run on panels and the register tile of the matrix products.
// Where heads share a key head but are tasks of their own, dk and dv go to scratch and addHeads sums them.
//
// Scratch per thread, in floats (R rows a chunk, D8 and S8: D and S rounded up to 8): lines of Q, dO, dQ 3·R·D8; panels
// of six rows of Q and dO 2·R·D; panels along rows of Q and dO 2·R·D8; keys or values 64·D, keys 64·D8; a panel of six
// 6·64; a tile 64; P and dP 2·R·S8.

import { cacheRangeError } from '../../../data-error-codes';
import { address, at, maxLanes, real, sumLanes, word } from '../common/args';
import { exp4 } from '../common/math';
import { shareEnd, shareStart } from '../common/share';
import { reportError } from './error';
import { packAcross, packLines6, packLines8 } from './matmul-panels';
import { storeEdge, tileF32 } from './matmul-tile';

const blockKeys: i32 = 64;

/** C[rows, keys] = X Yᵀ for panels of six rows of X and eight of Y, all of length `size`. */
function products(x: usize, rows: i32, y: usize, keys: i32, size: i32, c: usize, line: usize): void {
  const panelX = <usize>size * 24;
  const panelY = <usize>size * 32;
  for (let m = 0; m < rows; m += 6) {
    let from = y;
    for (let s = 0; s < keys; s += 8) {
      tileF32(size, x, from, at(c + <usize>m * line, s), line, false);
      from += panelY;
    }
    x += panelX;
  }
}

/** Turns a row of scores into probabilities and a row of dP into dS; entries outside low … high−1 become 0. */
function rowGradients(p: usize, dp: usize, low: i32, high: i32, width: i32): void {
  for (let s = 0; s < low; s++) store<f32>(at(p, s), -Infinity);
  for (let s = max(high, low); s < width; s++) store<f32>(at(p, s), -Infinity);
  let m = v128.load(p);
  for (let s = 4; s < width; s += 4) m = f32x4.pmax(m, v128.load(at(p, s)));
  const most = maxLanes(m);
  const shift = f32x4.splat(most == -Infinity ? 0 : most);
  let sum = f32x4.splat(0);
  let dot = f32x4.splat(0);
  for (let s = 0; s < width; s += 4) {
    const e = exp4(f32x4.sub(v128.load(at(p, s)), shift));
    v128.store(at(p, s), e);
    sum = f32x4.add(sum, e);
    dot = f32x4.add(dot, f32x4.mul(e, v128.load(at(dp, s))));
  }
  const total = sumLanes(sum);
  const inverse = total > 0 ? <f32>1 / total : <f32>0;
  const f = f32x4.splat(inverse);
  const delta = f32x4.splat(sumLanes(dot) * inverse);
  for (let s = 0; s < width; s += 4) {
    const probability = f32x4.mul(v128.load(at(p, s)), f);
    v128.store(at(p, s), probability);
    v128.store(at(dp, s), f32x4.mul(probability, f32x4.sub(v128.load(at(dp, s)), delta)));
  }
}

/** C[s] += Σ_r weights[r][s] lines[r] for `keys` rows of C; `lines` in panels of eight columns. */
function addTransposed(
  weights: usize,
  line: usize,
  rows: i32,
  keys: i32,
  lines: usize,
  size: i32,
  c: usize,
  stride: usize,
  panel: usize,
  tile: usize,
): void {
  const panelBytes = (<usize>rows) << 5;
  for (let s = 0; s < keys; s += 6) {
    const count = min(6, keys - s);
    packAcross(at(weights, s), line, count, 6, rows, panel);
    let from = lines;
    let out = c + <usize>s * stride;
    for (let d = 0; d < size; d += 8) {
      if (count == 6 && d + 8 <= size) tileF32(rows, panel, from, out, stride, true);
      else {
        tileF32(rows, panel, from, tile, 32, false);
        storeEdge(tile, out, stride, count, min(8, size - d), true);
      }
      from += panelBytes;
      out += 32;
    }
  }
}

/**
 * Words: q, k, v, dy, start (address of one i32; 0: none), dq, dk, dv (targets, as wide as there are tasks a batch
 * entry), B, T, H, D, S, G, scale, causal, window, scratch, scratch bytes of a thread, R, lanes (heads a task).
 */
export function attentionBackward(args: usize, thread: i32, threads: i32): void {
  const startAddress = address(args, 4);
  const start = startAddress == 0 ? 0 : load<i32>(startAddress);
  const batch = word(args, 8);
  const tokens = word(args, 9);
  const heads = word(args, 10);
  const size = word(args, 11);
  const allKeys = word(args, 12);
  const groups = word(args, 13);
  const scale = f32x4.splat(real(args, 14));
  const causal = word(args, 15) != 0;
  const window = word(args, 16);
  const blockRows = word(args, 19);
  const lanes = word(args, 20);

  if (causal && (start < 0 || start > allKeys - tokens)) {
    if (thread == 0) reportError(cacheRangeError, start);
    return;
  }

  const size8 = (size + 7) & ~7;
  const line8 = (<usize>size8) << 2;
  const lineS = (<usize>((allKeys + 7) & ~7)) << 2;
  const q = address(args, 17) + <usize>thread * address(args, 18);
  const o = q + line8 * blockRows;
  const dq = o + line8 * blockRows;
  const panelQ = dq + line8 * blockRows;
  const panelO = panelQ + ((<usize>(size * blockRows)) << 2);
  const acrossQ = panelO + ((<usize>(size * blockRows)) << 2);
  const acrossO = acrossQ + line8 * blockRows;
  const linesK = acrossO + line8 * blockRows;
  const acrossK = linesK + ((<usize>(size * blockKeys)) << 2);
  const panel = acrossK + line8 * blockKeys;
  const tile = panel + 6 * 256;
  const p = tile + 256;
  const dp = p + lineS * <usize>blockRows;

  const width = heads / lanes;
  const share = heads / groups;
  const headBytes = (<usize>size) << 2;
  const keyBytes = headBytes * <usize>groups;
  const targetBytes = headBytes * <usize>width;
  const allRows = tokens * lanes;
  const tasks = batch * width;
  for (let task = thread; task < tasks; task += threads) {
    const b = task / width;
    const slot = task % width;
    const firstHead = slot * lanes;
    const group = <usize>(firstHead / share) * headBytes;
    const keys0 = address(args, 1) + <usize>(b * allKeys) * keyBytes + group;
    const values0 = address(args, 2) + <usize>(b * allKeys) * keyBytes + group;
    const toK = address(args, 6) + <usize>(b * allKeys) * targetBytes + <usize>slot * headBytes;
    const toV = address(args, 7) + <usize>(b * allKeys) * targetBytes + <usize>slot * headBytes;
    for (let s = 0; s < allKeys; s++) {
      memory.fill(toK + <usize>s * targetBytes, 0, headBytes);
      memory.fill(toV + <usize>s * targetBytes, 0, headBytes);
    }

    for (let firstRow = 0; firstRow < allRows; firstRow += blockRows) {
      const rows = min(blockRows, allRows - firstRow);
      const lastPosition = start + (firstRow + rows - 1) / lanes;
      const keyEnd = causal ? min(allKeys, lastPosition + 1) : allKeys;
      const keyStart = window > 0 ? max(0, start + firstRow / lanes - window + 1) : 0;
      const count = keyEnd - keyStart;

      for (let m = 0; m < rows; m++) {
        const r = firstRow + m;
        const row = <usize>((b * tokens + r / lanes) * heads + firstHead + (r % lanes)) * headBytes;
        const line = q + <usize>m * line8;
        const lineO = o + <usize>m * line8;
        memory.copy(line, address(args, 0) + row, headBytes);
        memory.copy(lineO, address(args, 3) + row, headBytes);
        if (size8 != size) {
          memory.fill(line + headBytes, 0, line8 - headBytes);
          memory.fill(lineO + headBytes, 0, line8 - headBytes);
        }
        for (let i: usize = 0; i < line8; i += 16) v128.store(line + i, f32x4.mul(v128.load(line + i), scale));
      }
      for (let m = 0; m < rows; m += 6) {
        const offset = (<usize>(m * size)) << 2;
        packLines6(q + <usize>m * line8, line8, min(6, rows - m), size, panelQ + offset);
        packLines6(o + <usize>m * line8, line8, min(6, rows - m), size, panelO + offset);
      }
      for (let d = 0; d < size; d += 8) {
        const offset = (<usize>(d * rows)) << 2;
        packAcross(at(q, d), line8, 8, 8, rows, acrossQ + offset);
        packAcross(at(o, d), line8, 8, 8, rows, acrossO + offset);
      }

      for (let s = 0; s < count; s += blockKeys) {
        const keys = min(blockKeys, count - s);
        const first = <usize>(keyStart + s) * keyBytes;
        for (let j = 0; j < keys; j += 8) {
          const to = linesK + ((<usize>(j * size)) << 2);
          packLines8(keys0 + first + <usize>j * keyBytes, keyBytes, min(8, keys - j), size, to);
        }
        products(panelQ, rows, linesK, keys, size, at(p, s), lineS);
        for (let j = 0; j < keys; j += 8) {
          const to = linesK + ((<usize>(j * size)) << 2);
          packLines8(values0 + first + <usize>j * keyBytes, keyBytes, min(8, keys - j), size, to);
        }
        products(panelO, rows, linesK, keys, size, at(dp, s), lineS);
      }

      for (let m = 0; m < rows; m++) {
        const position = start + (firstRow + m) / lanes;
        const high = causal ? min(count, position + 1 - keyStart) : count;
        const low = window > 0 ? min(max(0, position - window + 1 - keyStart), count) : 0;
        rowGradients(p + <usize>m * lineS, dp + <usize>m * lineS, low, max(0, high), (count + 7) & ~7);
      }

      memory.fill(dq, 0, line8 * blockRows);
      for (let s = 0; s < count; s += blockKeys) {
        const keys = min(blockKeys, count - s);
        const k = keys0 + <usize>(keyStart + s) * keyBytes;
        for (let d = 0; d < size; d += 8)
          packAcross(at(k, d), keyBytes, min(8, size - d), 8, keys, acrossK + ((<usize>(d * keys)) << 2));
        for (let m = 0; m < rows; m += 6) {
          packLines6(at(dp + <usize>m * lineS, s), lineS, min(6, rows - m), keys, panel);
          let from = acrossK;
          for (let d = 0; d < size; d += 8) {
            tileF32(keys, panel, from, at(dq + <usize>m * line8, d), line8, true);
            from += (<usize>keys) << 5;
          }
        }
      }
      for (let m = 0; m < rows; m++) {
        const r = firstRow + m;
        const line = dq + <usize>m * line8;
        for (let i: usize = 0; i < line8; i += 16) v128.store(line + i, f32x4.mul(v128.load(line + i), scale));
        const row = <usize>((b * tokens + r / lanes) * heads + firstHead + (r % lanes)) * headBytes;
        memory.copy(address(args, 5) + row, line, headBytes);
      }

      const first = <usize>keyStart * targetBytes;
      addTransposed(p, lineS, rows, count, acrossO, size, toV + first, targetBytes, panel, tile);
      addTransposed(dp, lineS, rows, count, acrossQ, size, toK + first, targetBytes, panel, tile);
    }
  }
}

/** out[r] = Σ over `share` neighbouring runs of `size` floats. Words: from, out, runs, share, size. */
export function addHeads(args: usize, thread: i32, threads: i32): void {
  const count = word(args, 2);
  const share = word(args, 3);
  const size = word(args, 4);
  const end = shareEnd(count, 1, thread, threads);
  for (let r = shareStart(count, 1, thread, threads); r < end; r++) {
    const from = at(address(args, 0), r * share * size);
    const out = at(address(args, 1), r * size);
    let i = 0;
    for (; i + 4 <= size; i += 4) {
      let sum = v128.load(at(from, i));
      for (let h = 1; h < share; h++) sum = f32x4.add(sum, v128.load(at(from, h * size + i)));
      v128.store(at(out, i), sum);
    }
    for (; i < size; i++) {
      let sum = load<f32>(at(from, i));
      for (let h = 1; h < share; h++) sum += load<f32>(at(from, h * size + i));
      store<f32>(at(out, i), sum);
    }
  }
}
