// Rounding of weight columns with error feedback (GPTQ, arXiv 2210.17323 algorithm 1), rows shared by the threads.
//
// Rows go in groups of six, the height of the f32 tile. For column c: code = nearest value of the grid to
// (w − offset) / step, f = (q − w) / U[c, c], and every later column j gets w_j += f · U[c, j] (GPTAQ: + v_c · P[c, j], v_c
// the weight before rounding within a block and the rounded one after it). Updates are lazy and left-looking: a panel of
// eight columns receives all earlier columns by tile products, so that f and v are written once, in the order in which
// the tiles read them: [group][column][6]. The triangles are in panels (panels.ts).
//
// Words of the argument block (solver-columns.ts has the same list).

import { address, word } from '../common/args';
import { shareEnd, shareStart } from '../common/share';
import { tileF32 } from '../engine/matmul-tile';
import { panelAt } from './panels';

const wRows = 0; // padded to a multiple of six
const wColumns = 1; // row length of W and length of a group of F, in columns: K padded to a multiple of eight
const wWeights = 2; // f32 [rows, columns]; rounded values where columns are done
const wErrors = 3; // F
const wBefore = 4; // V, or 0
const wFactor = 5; // panels of U
const wCorrection = 6; // panels of P, or 0
const wRuns = 7; // i32 [K]: row of steps and offsets for each column
const wSteps = 8; // f32 [runs, rows]
const wOffsets = 9; // the same, or 0
const wThresholds = 10; // f32: 2^levels − 1 thresholds, ascending, padded with infinity
const wLevels = 11;
const wValues = 12; // f32 by index of threshold
const wCodes = 13; // u8 by index of threshold
const wOut = 14; // u8 [rows, columns]
const wScratch = 15; // 256 bytes a thread

const group: i32 = 6;
/** Steps of k and groups of rows that stay in the second-level cache together. */
const depthAtOnce: i32 = 512;
const groupsAtOnce: i32 = 32;

/** W[6, 8] += F · U for one panel, columns first … last (within the panel) only. */
function addProduct(
  depth: i32,
  f: usize,
  panel: usize,
  w: usize,
  stride: usize,
  first: i32,
  last: i32,
  spare: usize,
): void {
  if (first == 0 && last == 8) {
    tileF32(depth, f, panel, w, stride, true);
    return;
  }
  tileF32(depth, f, panel, spare, 32, false);
  for (let r: usize = 0; r < 6; r++) {
    for (let j = first; j < last; j++) {
      const to = w + r * stride + (<usize>j << 2);
      store<f32>(to, load<f32>(to) + load<f32>(spare + (r << 5) + (<usize>j << 2)));
    }
  }
}

/** Columns c0 … c1 of W receive what columns k0 … k1 owe them. */
export function updateColumns(args: usize, c0: i32, c1: i32, k0: i32, k1: i32, thread: i32, threads: i32): void {
  const groups = word(args, wRows) / group;
  const columns = word(args, wColumns);
  const stride = <usize>columns << 2;
  const groupBytes = <usize>columns * 24;
  const w = address(args, wWeights);
  const f = address(args, wErrors);
  const v = address(args, wBefore);
  const u = address(args, wFactor);
  const p = address(args, wCorrection);
  const spare = address(args, wScratch) + ((<usize>thread) << 8);
  const end = shareEnd(groups, 1, thread, threads);
  for (let from = shareStart(groups, 1, thread, threads); from < end; from += groupsAtOnce) {
    const to = min(from + groupsAtOnce, end);
    for (let k = k0; k < k1; k += depthAtOnce) {
      const depth = min(depthAtOnce, k1 - k);
      for (let g = from; g < to; g++) {
        const line = <usize>g * groupBytes + <usize>k * 24;
        const row = w + <usize>g * 6 * stride;
        for (let n = c0 & ~7; n < c1; n += 8) {
          const panel = panelAt(n >> 3) + (<usize>k << 5);
          const at = row + (<usize>n << 2);
          addProduct(depth, f + line, u + panel, at, stride, max(c0 - n, 0), min(c1 - n, 8), spare);
          if (p != 0) addProduct(depth, v + line, p + panel, at, stride, max(c0 - n, 0), min(c1 - n, 8), spare);
        }
      }
    }
  }
}

/** Index of the value nearest to t: the number of thresholds below it. */
// @ts-ignore: decorator
@inline
function nearest(t: f32, thresholds: usize, half: i32): i32 {
  let index = 0;
  for (; half > 0; half >>= 1) {
    const above = t > load<f32>(thresholds + (<usize>(index + half - 1) << 2));
    index += select(half, 0, above);
  }
  return index;
}

/** Lanes from … to of eight, as masks of two vectors. */
// @ts-ignore: decorator
@inline
function laneMask(base: i32, from: i32, to: i32): v128 {
  const lanes = i32x4.add(i32x4(0, 1, 2, 3), i32x4.splat(base));
  return v128.and(i32x4.ge_s(lanes, i32x4.splat(from)), i32x4.lt_s(lanes, i32x4.splat(to)));
}

/** Rounds columns c0 … c1, which have received everything from columns before c0. */
export function roundColumns(args: usize, c0: i32, c1: i32, thread: i32, threads: i32): void {
  const rows = word(args, wRows);
  const columns = word(args, wColumns);
  const stride = <usize>columns << 2;
  const groupBytes = <usize>columns * 24;
  const runs = address(args, wRuns);
  const steps = address(args, wSteps);
  const offsets = address(args, wOffsets);
  const thresholds = address(args, wThresholds);
  const half = (1 << word(args, wLevels)) >> 1;
  const values = address(args, wValues);
  const codes = address(args, wCodes);
  const u = address(args, wFactor);
  const p = address(args, wCorrection);
  const spare = address(args, wScratch) + ((<usize>thread) << 8);
  const end = shareEnd(rows, group, thread, threads);
  for (let r = shareStart(rows, group, thread, threads); r < end; r += group) {
    const f = address(args, wErrors) + <usize>(r / group) * groupBytes;
    const v = address(args, wBefore) + <usize>(r / group) * groupBytes;
    const out = address(args, wOut) + <usize>r * <usize>columns;
    for (let n = c0 & ~7; n < c1; n += 8) {
      const w = address(args, wWeights) + <usize>r * stride + (<usize>n << 2);
      const first = max(c0 - n, 0);
      const last = min(c1 - n, 8);
      const panel = u + panelAt(n >> 3);
      const correction = p + panelAt(n >> 3);
      if (n > c0) {
        const k = <usize>c0;
        addProduct(n - c0, f + k * 24, panel + (k << 5), w, stride, first, last, spare);
        if (p != 0) addProduct(n - c0, v + k * 24, correction + (k << 5), w, stride, first, last, spare);
      }
      for (let j = first; j < last; j++) {
        const c = n + j;
        const line = panel + (<usize>c << 5);
        const diagonal = load<f32>(line + (<usize>j << 2));
        const run = <usize>load<i32>(runs + (<usize>c << 2)) * <usize>rows + <usize>r;
        const low = laneMask(0, j + 1, last);
        const high = laneMask(4, j + 1, last);
        const u0 = v128.and(v128.load(line), low);
        const u1 = v128.and(v128.load(line, 16), high);
        for (let i: usize = 0; i < 6; i++) {
          const row = w + i * stride;
          const at = row + (<usize>j << 2);
          const x = load<f32>(at);
          const step = load<f32>(steps + ((run + i) << 2));
          const offset = offsets == 0 ? <f32>0 : load<f32>(offsets + ((run + i) << 2));
          const index = nearest(step == 0 ? <f32>0 : (x - offset) / step, thresholds, half);
          const q = load<f32>(values + (<usize>index << 2)) * step + offset;
          const feedback = (q - x) / diagonal;
          store<f32>(f + <usize>c * 24 + (i << 2), feedback);
          store<u8>(out + i * <usize>columns + <usize>c, load<u8>(codes + <usize>index));
          const s = f32x4.splat(feedback);
          let r0 = f32x4.add(v128.load(row), f32x4.mul(s, u0));
          let r1 = f32x4.add(v128.load(row, 16), f32x4.mul(s, u1));
          if (p != 0) {
            store<f32>(v + <usize>c * 24 + (i << 2), x);
            const before = f32x4.splat(x);
            const pLine = correction + (<usize>c << 5);
            r0 = f32x4.add(r0, f32x4.mul(before, v128.and(v128.load(pLine), low)));
            r1 = f32x4.add(r1, f32x4.mul(before, v128.and(v128.load(pLine, 16), high)));
          }
          v128.store(row, r0);
          v128.store(row, r1, 16);
          store<f32>(at, q);
        }
      }
    }
  }
}

/** After a block: columns beyond it see the rounded weights of columns c0 … c1. */
export function settleColumns(args: usize, c0: i32, c1: i32, thread: i32, threads: i32): void {
  const rows = word(args, wRows);
  const columns = word(args, wColumns);
  const end = shareEnd(rows, 1, thread, threads);
  for (let r = shareStart(rows, 1, thread, threads); r < end; r++) {
    const w = address(args, wWeights) + <usize>r * (<usize>columns << 2);
    const v = address(args, wBefore) + <usize>(r / group) * (<usize>columns * 24) + (<usize>(r % group) << 2);
    for (let c = c0; c < c1; c++) store<f32>(v + <usize>c * 24, load<f32>(w + (<usize>c << 2)));
  }
}
