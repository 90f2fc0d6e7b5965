// Entry of the ggml quantizer kernels: encodes a matrix, each thread its share.
//
// The matrix is cut into runs of at most 2048 values within a row; a run of bf16 or f16 values is widened into scratch
// first, where it stays in the L1 cache. The bytes are those of the definition (src/formats/ggml); blocks that a
// kernel does not take are flagged and left to the host.

import { shareEnd, shareStart } from '../common/share';
import { mxfp4, nvfp4 } from './fp4';
import { iq4_nl, iq4_xs } from './iq4';
import { q2_k, q4_k, q5_k } from './k-affine';
import { q3_k, q6_k } from './k-symmetric';
import { q4_0, q4_1, q5_0, q5_1, q8_0 } from './legacy';
import { weightedLegacy } from './legacy-weighted';

// GGUF type numbers.
const Q4_0: i32 = 2;
const Q4_1: i32 = 3;
const Q5_0: i32 = 6;
const Q5_1: i32 = 7;
const Q8_0: i32 = 8;
const Q2_K: i32 = 10;
const Q3_K: i32 = 11;
const Q4_K: i32 = 12;
const Q5_K: i32 = 13;
const Q6_K: i32 = 14;
const IQ4_NL: i32 = 20;
const IQ4_XS: i32 = 23;
const MXFP4: i32 = 39;
const NVFP4: i32 = 40;

/** Values of one run. */
const run: i32 = 2048;
/** Bytes of scratch of one thread: the widened run and a kernel's own. */
const scratchBytes: usize = 32768;
const kernelScratchAt: usize = 8192;

// Source types.
const F16: i32 = 1;
const BF16: i32 = 2;

function widenBf16(from: usize, n: i32, to: usize): void {
  for (let i = 0; i < n; i += 8) {
    const v = v128.load(from + (<usize>i << 1));
    v128.store(to + (<usize>i << 2), i32x4.shl(i32x4.extend_low_i16x8_u(v), 16));
    v128.store(to + (<usize>i << 2), i32x4.shl(i32x4.extend_high_i16x8_u(v), 16), 16);
  }
}

// @ts-ignore: decorator
@inline
function widenHalves(h: v128): v128 {
  // Exponent and mantissa moved into place, times 2^112: exact, subnormals too. Infinity and NaN keep their exponent.
  const magnitude = v128.and(h, i32x4.splat(0x7fff));
  const value = f32x4.mul(i32x4.shl(magnitude, 13), f32x4.splat(reinterpret<f32>(239 << 23)));
  const special = v128.and(i32x4.gt_u(magnitude, i32x4.splat(0x7bff)), i32x4.splat(0x7f800000));
  return v128.or(v128.or(value, special), i32x4.shl(v128.and(h, i32x4.splat(0x8000)), 16));
}

function widenF16(from: usize, n: i32, to: usize): void {
  for (let i = 0; i < n; i += 8) {
    const v = v128.load(from + (<usize>i << 1));
    v128.store(to + (<usize>i << 2), widenHalves(i32x4.extend_low_i16x8_u(v)));
    v128.store(to + (<usize>i << 2), widenHalves(i32x4.extend_high_i16x8_u(v)), 16);
  }
}

/** Types whose weighted search needs the spread of the whole row. */
// @ts-ignore: decorator
@inline
function needsRow(type: i32): bool {
  return type == Q4_0 || type == Q4_1 || type == Q5_0 || type == Q5_1;
}

/** Widen a run of n values to scratch when it is not f32; returns where it is. */
// @ts-ignore: decorator
@inline
function widened(x: usize, dtype: i32, n: i32, s: usize): usize {
  if (dtype == F16) widenF16(x, n, s);
  else if (dtype == BF16) widenBf16(x, n, s);
  return dtype == 0 ? x : s;
}

/** Σ x² of a row, in sequence. */
function rowSquares(x: usize, dtype: i32, cols: i32, s: usize): f32 {
  let sum: f32 = 0;
  for (let column = 0; column < cols; column += run) {
    const n = min(run, cols - column);
    const from = widened(x + <usize>column * (dtype == 0 ? 4 : 2), dtype, n, s);
    for (let i = from, end = from + (<usize>n << 2); i < end; i += 4) sum += load<f32>(i) * load<f32>(i);
  }
  return sum;
}

/** Encode one run of n values (whole blocks). */
function encode(
  type: i32,
  x: usize,
  n: i32,
  importance: usize,
  out: usize,
  flags: usize,
  logTable: usize,
  s: usize,
): void {
  if (type == Q4_0) q4_0(x, out, flags, n >> 5);
  else if (type == Q4_1) q4_1(x, out, flags, n >> 5);
  else if (type == Q5_0) q5_0(x, out, flags, n >> 5);
  else if (type == Q5_1) q5_1(x, out, flags, n >> 5);
  else if (type == Q8_0) q8_0(x, out, flags, n >> 5);
  else if (type == MXFP4) mxfp4(x, out, flags, n >> 5, logTable);
  else if (type == NVFP4) nvfp4(x, out, flags, n >> 6);
  else if (type == IQ4_NL) iq4_nl(x, importance, out, flags, n >> 5, s);
  else {
    for (let at = 0; at < n; at += 256, x += 1024, flags++) {
      const w = importance != 0 ? importance + (<usize>at << 2) : 0;
      if (type == Q4_K) {
        q4_k(x, w, out, flags, s);
        out += 144;
      } else if (type == Q5_K) {
        q5_k(x, w, out, flags, s);
        out += 176;
      } else if (type == Q6_K) {
        q6_k(x, w, out, flags, s);
        out += 210;
      } else if (type == Q3_K) {
        q3_k(x, w, out, flags, s);
        out += 110;
      } else if (type == Q2_K) {
        q2_k(x, w, out, flags, s);
        out += 84;
      } else if (type == IQ4_XS) {
        iq4_xs(x, w, out, flags, s);
        out += 136;
      }
    }
  }
}

/**
 * Encode rows × cols values.
 * @param source row-major values of type dtype: 0 f32, 1 f16, 2 bf16
 * @param block values in a block, `bytes` its encoded bytes
 * @param importance cols f32, or 0
 * @param flags one zeroed byte a block; 1 afterwards: not encoded
 * @param logTable 256 words for MXFP4 (see fp4.ts)
 * @param scratch 32 KiB for each thread
 */
export function quantize(
  type: i32,
  source: usize,
  dtype: i32,
  rows: i32,
  cols: i32,
  block: i32,
  bytes: i32,
  out: usize,
  importance: usize,
  flags: usize,
  logTable: usize,
  scratch: usize,
  thread: i32,
  threads: i32,
): void {
  const s = scratch + <usize>thread * scratchBytes;
  const width: usize = dtype == 0 ? 4 : 2;
  const runsOfRow = (cols + run - 1) / run;
  const runs = rows * runsOfRow;
  const byRow = importance != 0 && needsRow(type);
  const unit = byRow ? runsOfRow : 1;
  let sigma2: f32 = 0;
  const end = shareEnd(runs, unit, thread, threads);
  for (let r = shareStart(runs, unit, thread, threads); r < end; r++) {
    const column = (r % runsOfRow) * run;
    const row = <usize>(r / runsOfRow) * cols;
    const start = row + column;
    const n = min(run, cols - column);
    if (byRow && column == 0) sigma2 = rowSquares(source + row * width, dtype, cols, s) / <f32>cols;
    const x = widened(source + start * width, dtype, n, s);
    const at = start / block;
    const w = importance != 0 ? importance + (<usize>column << 2) : 0;
    const to = out + at * bytes;
    if (byRow) weightedLegacy(bytes, x, w, sigma2, to, flags + at, n >> 5, s + kernelScratchAt);
    else encode(type, x, n, w, to, flags + at, logTable, s + kernelScratchAt);
  }
}
