// Attention with running maximum and sum (Milakov and Gimelshein 2018; Dao et al. 2022): T×S scores never exist.
//
// Thread map: the query heads of one key/value head g and all queries t form rows r = t · (H/G) + head; a task is a
// batch entry, a g and a block of 60 rows, and belongs to one thread. A task walks the keys its rows can see in
// blocks of 64: scores P = Q Kᵀ, masking, m' = max(m, max P), P = e^(P − m'), l = l e^(m − m') + Σ P,
// O = O e^(m − m') + P V; at the end O / l. Both products run on panels and the register tile of the matrix products
// (matmul-tile.ts). Blocks of at most 8 rows (token generation) read keys and values in place, once.
//
// Scratch per thread, in floats (D8: D rounded up to 8): Q 60·D8, O 60·D8, panels of Q 60·D, of K 64·D, of V 64·D8,
// P 60·64, one panel of P 6·64, maxima and sums 120.

import { cacheRangeError } from '../../../data-error-codes';
import { address, at, maxLanes, real, sumLanes, word } from '../common/args';
import { weight4 } from '../common/exp';
import { exp4 } from '../common/math';
import { reportError } from './error';
import { packAcross, packLines6, packLines8 } from './matmul-panels';
import { tileF32 } from './matmul-tile';

export const blockRows: i32 = 60;
export const blockKeys: i32 = 64;
export const lineBytes: usize = 256;
export const fewRows: i32 = 8;

/** Scores of few rows, keys read in place: p[m][s] = q[m] · k[s]. */
export function scoresInPlace(q: usize, qBytes: usize, rows: i32, k: usize, kBytes: usize, keys: i32, size: i32, p: usize): void {
  const vectors = ((<usize>size) & ~3) << 2;
  const bytes = (<usize>size) << 2;
  let s = 0;
  for (; s < keys; s += 4) {
    // Past the last key the last one is read again; its scores are masked.
    const last = keys - 1;
    const k0 = k + <usize>s * kBytes;
    const k1 = k + <usize>min(s + 1, last) * kBytes;
    const k2 = k + <usize>min(s + 2, last) * kBytes;
    const k3 = k + <usize>min(s + 3, last) * kBytes;
    for (let m = 0; m < rows; m++) {
      const row = q + <usize>m * qBytes;
      let a0 = f32x4.splat(0);
      let a1 = a0;
      let a2 = a0;
      let a3 = a0;
      let i: usize = 0;
      for (; i < vectors; i += 16) {
        const v = v128.load(row + i);
        a0 = f32x4.relaxed_madd(v, v128.load(k0 + i), a0);
        a1 = f32x4.relaxed_madd(v, v128.load(k1 + i), a1);
        a2 = f32x4.relaxed_madd(v, v128.load(k2 + i), a2);
        a3 = f32x4.relaxed_madd(v, v128.load(k3 + i), a3);
      }
      let s0 = sumLanes(a0);
      let s1 = sumLanes(a1);
      let s2 = sumLanes(a2);
      let s3 = sumLanes(a3);
      for (; i < bytes; i += 4) {
        const v = load<f32>(row + i);
        s0 += v * load<f32>(k0 + i);
        s1 += v * load<f32>(k1 + i);
        s2 += v * load<f32>(k2 + i);
        s3 += v * load<f32>(k3 + i);
      }
      const out = at(p + <usize>m * lineBytes, s);
      store<f32>(out, s0);
      store<f32>(out, s1, 4);
      store<f32>(out, s2, 8);
      store<f32>(out, s3, 12);
    }
  }
}

/** O[m] += Σ_s p[m][s] v[s] for few rows, values read in place. */
export function valuesInPlace(p: usize, rows: i32, v: usize, vBytes: usize, keys: i32, size: i32, o: usize, oBytes: usize): void {
  const bytes = (<usize>size) << 2;
  for (let m = 0; m < rows; m++) {
    const weights = p + <usize>m * lineBytes;
    const out = o + <usize>m * oBytes;
    let i: usize = 0;
    for (; i + 64 <= bytes; i += 64) {
      let a0 = v128.load(out + i);
      let a1 = v128.load(out + i, 16);
      let a2 = v128.load(out + i, 32);
      let a3 = v128.load(out + i, 48);
      let from = v + i;
      for (let s = 0; s < keys; s++) {
        const w = v128.load32_splat(at(weights, s));
        a0 = f32x4.relaxed_madd(w, v128.load(from), a0);
        a1 = f32x4.relaxed_madd(w, v128.load(from, 16), a1);
        a2 = f32x4.relaxed_madd(w, v128.load(from, 32), a2);
        a3 = f32x4.relaxed_madd(w, v128.load(from, 48), a3);
        from += vBytes;
      }
      v128.store(out + i, a0);
      v128.store(out + i, a1, 16);
      v128.store(out + i, a2, 32);
      v128.store(out + i, a3, 48);
    }
    for (; i < bytes; i += 4) {
      let a = load<f32>(out + i);
      for (let s = 0; s < keys; s++) a += load<f32>(at(weights, s)) * load<f32>(v + <usize>s * vBytes + i);
      store<f32>(out + i, a);
    }
  }
}

/** How many of `keys` the six rows from m on see together, when row 0 sees `seen` and `share` rows see one more. */
// @ts-ignore: decorator
@inline
function panelKeys(m: i32, keys: i32, seen: i32, share: i32): i32 {
  return max(0, min(keys, seen + (m - (m % 6) + 5) / share));
}

/**
 * P = Q Kᵀ for a block; rows are rounded up to 6, keys to 8 (their lines exist). Panels stop at the last key that one of
 * their rows sees (panelKeys); with `seen` = keys all go to the end.
 */
export function scoresPacked(
  q: usize,
  rows: i32,
  k: usize,
  keys: i32,
  size: i32,
  p: usize,
  seen: i32,
  share: i32,
): void {
  const panelQ = <usize>size * 24;
  const panelK = <usize>size * 32;
  for (let m = 0; m < rows; m += 6) {
    let from = k;
    const end = panelKeys(m, keys, seen, share);
    for (let s = 0; s < end; s += 8) {
      tileF32(size, q, from, at(p + <usize>m * lineBytes, s), lineBytes, false);
      from += panelK;
    }
    q += panelQ;
  }
}

/** O += P V for a block; `panel` holds six rows of P. Panels stop as in scoresPacked. */
export function valuesPacked(
  p: usize,
  rows: i32,
  v: usize,
  keys: i32,
  size: i32,
  o: usize,
  oBytes: usize,
  panel: usize,
  seen: i32,
  share: i32,
): void {
  const panelV = <usize>keys << 5;
  for (let m = 0; m < rows; m += 6) {
    const depth = panelKeys(m, keys, seen, share);
    if (depth == 0) continue;
    packLines6(p + <usize>m * lineBytes, lineBytes, 6, depth, panel);
    let from = v;
    for (let d = 0; d < size; d += 8) {
      tileF32(depth, panel, from, at(o + <usize>m * oBytes, d), oBytes, true);
      from += panelV;
    }
  }
}

// @ts-ignore: decorator
@inline
function exp1(x: f32): f32 {
  return f32x4.extract_lane(exp4(f32x4.splat(x)), 0);
}

/**
 * One row of a score block: masks scores outside keys low … high−1 (relative to the block), updates maximum and sum,
 * turns scores into weights and rescales the row of O. Weights up to the next multiple of 8 are set.
 */
export function softmaxStep(p: usize, low: i32, high: i32, keys: i32, stats: usize, o: usize, oBytes: usize): void {
  const width = (keys + 7) & ~7;
  for (let s = 0; s < low; s++) store<f32>(at(p, s), -Infinity);
  for (let s = max(high, low); s < width; s++) store<f32>(at(p, s), -Infinity);
  // two of each, since a vector waits for the one before it
  let m0 = v128.load(p);
  let m1 = v128.load(p, 16);
  for (let s = 8; s < width; s += 8) {
    m0 = f32x4.pmax(m0, v128.load(at(p, s)));
    m1 = f32x4.pmax(m1, v128.load(at(p, s), 16));
  }
  const before = load<f32>(stats);
  const most = max(before, maxLanes(f32x4.pmax(m0, m1)));
  if (most == -Infinity) {
    for (let s = 0; s < width; s += 4) v128.store(at(p, s), f32x4.splat(0));
    return;
  }
  const shift = f32x4.splat(most);
  let sum0 = f32x4.splat(0);
  let sum1 = sum0;
  for (let s = 0; s < width; s += 8) {
    const x = at(p, s);
    const e0 = weight4(f32x4.sub(v128.load(x), shift));
    const e1 = weight4(f32x4.sub(v128.load(x, 16), shift));
    v128.store(x, e0);
    v128.store(x, e1, 16);
    sum0 = f32x4.add(sum0, e0);
    sum1 = f32x4.add(sum1, e1);
  }
  let total = load<f32>(stats, 4);
  if (before == -Infinity) store<f32>(stats, most);
  else if (most != before) {
    const factor = exp1(before - most);
    total *= factor;
    const f = f32x4.splat(factor);
    for (let i: usize = 0; i < oBytes; i += 16) v128.store(o + i, f32x4.mul(v128.load(o + i), f));
    store<f32>(stats, most);
  }
  store<f32>(stats, total + sumLanes(f32x4.add(sum0, sum1)), 4);
}

/**
 * Queries firstRow … of a key head, scaled, as lines of q (padded to a multiple of 8), and their statistics reset.
 * `head`: index of the first query's first head in q [B, T, H, D].
 */
export function loadRows(
  from: usize,
  head: i32,
  heads: i32,
  share: i32,
  firstRow: i32,
  rows: i32,
  size: i32,
  scale: v128,
  q: usize,
  stats: usize,
): void {
  const headBytes = (<usize>size) << 2;
  const line8 = (<usize>((size + 7) & ~7)) << 2;
  for (let m = 0; m < rows; m++) {
    const line = q + <usize>m * line8;
    const r = firstRow + m;
    memory.copy(line, from + <usize>(head + (r / share) * heads + (r % share)) * headBytes, headBytes);
    if (line8 != headBytes) memory.fill(line + headBytes, 0, line8 - headBytes);
    for (let i: usize = 0; i < line8; i += 16) v128.store(line + i, f32x4.mul(v128.load(line + i), scale));
    store<f32>(stats + (<usize>m << 3), -Infinity);
    store<f32>(stats + (<usize>m << 3), 0, 4);
  }
}

/** Lines of q as panels of six. */
export function packRows(q: usize, rows: i32, size: i32, qp: usize): void {
  const line8 = (<usize>((size + 7) & ~7)) << 2;
  for (let m = 0; m < rows; m += 6)
    packLines6(q + <usize>m * line8, line8, min(6, rows - m), size, qp + ((<usize>(m * size)) << 2));
}

/** O / l to the rows of the result. */
export function storeRows(
  to: usize,
  head: i32,
  heads: i32,
  share: i32,
  firstRow: i32,
  rows: i32,
  size: i32,
  o: usize,
  stats: usize,
): void {
  const headBytes = (<usize>size) << 2;
  const line8 = (<usize>((size + 7) & ~7)) << 2;
  for (let m = 0; m < rows; m++) {
    const r = firstRow + m;
    const total = load<f32>(stats + (<usize>m << 3), 4);
    const inverse = total > 0 ? <f32>1 / total : <f32>0;
    const line = o + <usize>m * line8;
    const f = f32x4.splat(inverse);
    for (let i: usize = 0; i < line8; i += 16) v128.store(line + i, f32x4.mul(v128.load(line + i), f));
    memory.copy(to + <usize>(head + (r / share) * heads + (r % share)) * headBytes, line, headBytes);
  }
}

/** Words: q, k, v, start (address of one i32; 0: none), out, B, T, H, D, S, G, scale, causal, window, scratch, scratch bytes of a thread. */
export function attention(args: usize, thread: i32, threads: i32): void {
  const startAddress = address(args, 3);
  const start = startAddress == 0 ? 0 : load<i32>(startAddress);
  const batch = word(args, 5);
  const tokens = word(args, 6);
  const heads = word(args, 7);
  const size = word(args, 8);
  const allKeys = word(args, 9);
  const groups = word(args, 10);
  const scale = f32x4.splat(real(args, 11));
  const causal = word(args, 12) != 0;
  const window = word(args, 13);

  if (causal && (start < 0 || start > allKeys - tokens)) {
    if (thread == 0) reportError(cacheRangeError, start);
    return;
  }

  const share = heads / groups;
  const size8 = (size + 7) & ~7;
  const line8 = (<usize>size8) << 2;
  const q = address(args, 14) + <usize>thread * address(args, 15);
  const o = q + line8 * blockRows;
  const qp = o + line8 * blockRows;
  const kp = qp + ((<usize>(size * blockRows)) << 2);
  const vp = kp + ((<usize>(size * blockKeys)) << 2);
  const p = vp + line8 * blockKeys;
  const panel = p + <usize>blockRows * lineBytes;
  const stats = panel + 6 * lineBytes;

  const allRows = tokens * share;
  const blocks = (allRows + blockRows - 1) / blockRows;
  const tasks = batch * groups * blocks;
  const headBytes = (<usize>size) << 2;
  const keyBytes = headBytes * <usize>groups;
  for (let task = thread; task < tasks; task += threads) {
    // The last blocks see the most keys under a causal mask; they go first.
    const index = blocks - 1 - task / (batch * groups);
    const b = (task % (batch * groups)) / groups;
    const g = task % groups;
    const firstRow = index * blockRows;
    const rows = min(blockRows, allRows - firstRow);
    const firstPosition = start + firstRow / share;
    const lastPosition = start + (firstRow + rows - 1) / share;
    const keyEnd = causal ? min(allKeys, lastPosition + 1) : allKeys;
    const keyStart = window > 0 ? max(0, firstPosition - window + 1) : 0;
    const inPlace = rows <= fewRows;

    const head = b * tokens * heads + g * share;
    loadRows(address(args, 0), head, heads, share, firstRow, rows, size, scale, q, stats);
    memory.fill(o, 0, line8 * blockRows);
    if (!inPlace) packRows(q, rows, size, qp);

    for (let s = keyStart; s < keyEnd; s += blockKeys) {
      const keys = min(blockKeys, keyEnd - s);
      const k = address(args, 1) + <usize>(b * allKeys + s) * keyBytes + <usize>g * headBytes;
      const v = address(args, 2) + <usize>(b * allKeys + s) * keyBytes + <usize>g * headBytes;
      // rows of a position begin anew in the block: the first may have fewer than the others
      const seen = causal ? firstPosition + 1 - s + (firstRow % share > 0 ? 1 : 0) : keys;
      if (inPlace) scoresInPlace(q, line8, rows, k, keyBytes, keys, size, p);
      else {
        for (let j = 0; j < keys; j += 8)
          packLines8(k + <usize>j * keyBytes, keyBytes, min(8, keys - j), size, kp + ((<usize>(j * size)) << 2));
        scoresPacked(qp, rows, kp, keys, size, p, seen, share);
      }
      for (let m = 0; m < rows; m++) {
        const position = start + (firstRow + m) / share;
        const high = causal ? min(keys, position + 1 - s) : keys;
        const low = window > 0 ? min(max(0, position - window + 1 - s), keys) : 0;
        const line = p + <usize>m * lineBytes;
        const width = inPlace ? keys : panelKeys(m, keys, seen, share);
        if (width > 0) softmaxStep(line, min(low, width), max(0, high), width, stats + (<usize>m << 3), o + <usize>m * line8, line8);
      }
      if (inPlace) valuesInPlace(p, rows, v, keyBytes, keys, size, o, line8);
      else {
        for (let d = 0; d < size; d += 8)
          packAcross(at(v, d), keyBytes, min(8, size - d), 8, keys, vp + ((<usize>(d * keys)) << 2));
        valuesPacked(p, rows, vp, keys, size, o, line8, panel, seen, share);
      }
    }

    storeRows(address(args, 4), head, heads, share, firstRow, rows, size, o, stats);
  }
}
