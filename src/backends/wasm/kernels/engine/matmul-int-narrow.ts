// The register tile of integer matrix products whose sums fit 16 bits: 6 rows × 12 columns, four k at a time.
//
// Where the relaxed dot product of bytes is made of two multiplications, a widening and an addition (x86 without
// AVX-VNNI, dotPortable in matmul-int-tile.ts), its first half alone is one instruction: i16x8.relaxed_dot_i8x16_i7x16_s
// gives sums of two products in 16 bits, and adding those in 16 bits saves the rest. A lane then holds the products of
// every second pair of k, and lanes are joined once a block.
//
// Additions wrap, so only the true sum of a lane must fit, not what passes on the way: lanes start from
// −offset · Σ a over their own k (mod 2^16), which takes the offset of B out again. integerPlan asks for it (`narrow`)
// when blocks always fit, block / 2 · max|a| · max|w| < 2^15 with w shifted and a not; runs are folded on A's side only
// when Σ |a| of a lane times max|w| < 2^15 (laneLimit). Sums are the same integers as the other tile's, so results are
// the same bits.

import { addTile, clearTile, lineBytes } from './matmul-int-tile.ts';

export const narrowColumns: i32 = 12;
/** Bytes of one step of a panel of B, and of one line of its scales. */
export const narrowLine: usize = 48;

const ones: usize = memory.data<i32>([0x00010001]);

/** Lanes of a sum over `length` bytes (a multiple of 16) as two halves of every word: pairs 0, 2, 4 … and 1, 3, 5 … of k. */
// @ts-ignore: decorator
@inline
function joinLanes(sums: v128): v128 {
  const half = i16x8.add(sums, v128.shuffle<i32>(sums, sums, 2, 3, 0, 1));
  return i16x8.add(half, v128.shuffle<i32>(half, half, 1, 0, 3, 2));
}

function laneSums(bytes: usize, length: i32): v128 {
  let sums = i16x8.splat(0);
  for (let i = 0; i < length; i += 16)
    sums = i16x8.add(sums, i16x8.extadd_pairwise_i8x16_s(v128.load(bytes + <usize>i)));
  return joinLanes(sums);
}

/** The larger of the two lanes' Σ |a|, at most 2^15. */
export function laneMagnitude(bytes: usize, length: i32): i32 {
  let sums = i16x8.splat(0);
  for (let i = 0; i < length; i += 16)
    sums = i16x8.add(sums, i16x8.extadd_pairwise_i8x16_u(i8x16.abs(v128.load(bytes + <usize>i))));
  const both = joinLanes(sums);
  return max<i32>(i16x8.extract_lane_u(both, 0), i16x8.extract_lane_u(both, 1));
}

/**
 * Starts of one run of `count` lines: a line a block, then one for the run. `bytes`: the run in the first line, lines
 * `stride` bytes apart, blocks `padded` bytes (a multiple of 16).
 */
export function narrowStarts(
  bytes: usize,
  stride: usize,
  count: i32,
  fold: i32,
  padded: i32,
  offset: i32,
  starts: usize,
): void {
  const factor = i16x8.splat(<i16>-offset);
  for (let i = 0; i < count; i++) {
    let total = i16x8.splat(0);
    let to = starts + ((<usize>i) << 2);
    for (let f = 0; f < fold; f++) {
      const start = i16x8.mul(laneSums(bytes + <usize>(f * padded), padded), factor);
      total = i16x8.add(total, start);
      v128.store32_lane(to, start, 0);
      to += lineBytes;
    }
    v128.store32_lane(to, total, 0);
    bytes += stride;
  }
}

// @ts-ignore: decorator
@inline
function dot(a: v128, b: v128, c: v128): v128 {
  return i16x8.add(i16x8.relaxed_dot_i8x16_i7x16_s(a, b), c);
}

/** Scales are powers of two here, so that the products are exact and may be fused with the addition. */
// @ts-ignore: decorator
@inline
function finish(sum: v128, one: v128, sb: v128, sa: v128, at: usize): void {
  const term = f32x4.mul(f32x4.convert_i32x4_s(i32x4.dot_i16x8_s(sum, one)), sb);
  v128.store(at, f32x4.relaxed_madd(term, sa, v128.load(at)));
}

/**
 * Three rows of one block: `steps` × 4 products, scaled and added to the f32 tile at `out`, rows `stride` bytes apart. Nine sums and their operands
 * stay within the fifteen registers that engines leave of x86-64's sixteen.
 */
// @ts-ignore: decorator
@inline
function threeRows(
  steps: i32,
  a: usize,
  starts: usize,
  scalesA: usize,
  b: usize,
  scalesB: usize,
  out: usize,
  stride: usize,
): void {
  let c00 = v128.load32_splat(starts);
  let c01 = c00;
  let c02 = c00;
  let c10 = v128.load32_splat(starts, 4);
  let c11 = c10;
  let c12 = c10;
  let c20 = v128.load32_splat(starts, 8);
  let c21 = c20;
  let c22 = c20;
  for (const end = a + (<usize>steps) * 24; a < end; a += 24) {
    const b0 = v128.load(b);
    const b1 = v128.load(b, 16);
    const b2 = v128.load(b, 32);
    const a0 = v128.load32_splat(a);
    c00 = dot(a0, b0, c00);
    c01 = dot(a0, b1, c01);
    c02 = dot(a0, b2, c02);
    const a1 = v128.load32_splat(a, 4);
    c10 = dot(a1, b0, c10);
    c11 = dot(a1, b1, c11);
    c12 = dot(a1, b2, c12);
    const a2 = v128.load32_splat(a, 8);
    c20 = dot(a2, b0, c20);
    c21 = dot(a2, b1, c21);
    c22 = dot(a2, b2, c22);
    b += narrowLine;
  }
  const one = v128.load32_splat(ones);
  const s0 = v128.load(scalesB);
  const s1 = v128.load(scalesB, 16);
  const s2 = v128.load(scalesB, 32);
  const r0 = v128.load32_splat(scalesA);
  finish(c00, one, s0, r0, out);
  finish(c01, one, s1, r0, out + 16);
  finish(c02, one, s2, r0, out + 32);
  const r1 = v128.load32_splat(scalesA, 4);
  out += stride;
  finish(c10, one, s0, r1, out);
  finish(c11, one, s1, r1, out + 16);
  finish(c12, one, s2, r1, out + 32);
  const r2 = v128.load32_splat(scalesA, 8);
  out += stride;
  finish(c20, one, s0, r2, out);
  finish(c21, one, s1, r2, out + 16);
  finish(c22, one, s2, r2, out + 32);
}

/** tileFolded of matmul-int-tile.ts in 16 bits and for twelve columns: the same arguments, starts by narrowStarts. */
export function tileNarrow(
  runs: i32,
  fold: i32,
  steps: i32,
  a: usize,
  starts: usize,
  sa: usize,
  b: usize,
  sb: usize,
  flags: usize,
  out: usize,
  stride: usize,
  sum: usize,
): void {
  const bytesA = (<usize>steps) * 24;
  const bytesB = (<usize>steps) * narrowLine;
  for (; runs > 0; runs--) {
    const total = starts + (<usize>fold) * lineBytes;
    const folded = (load<i32>(total, 24) & load<i32>(flags)) != 0;
    const pieces = folded ? 1 : fold;
    const to = folded ? out : sum;
    const step = folded ? stride : narrowLine;
    let from = folded ? total : starts;
    const length = folded ? steps * fold : steps;
    if (!folded) clearTile(sum, narrowLine, narrowLine);
    let x = a;
    let y = b;
    let scaleA = sa;
    let scaleB = sb;
    for (let i = 0; i < pieces; i++) {
      threeRows(length, x, from, scaleA, y, scaleB, to, step);
      threeRows(length, x + 12, from + 12, scaleA + 12, y, scaleB, to + 3 * step, step);
      x += bytesA;
      y += bytesB;
      from += lineBytes;
      scaleA += lineBytes;
      scaleB += narrowLine;
    }
    if (!folded) addTile(sum, narrowLine, out, stride);
    a += bytesA * <usize>fold;
    b += bytesB * <usize>fold;
    sa += lineBytes * <usize>fold;
    sb += narrowLine * <usize>fold;
    starts = total + lineBytes;
    flags += 4;
  }
}
