// Why integer formats for training leave out their most negative code: an experiment.
//
// Problem: b-bit integers have one more negative code than positive ones. With scale = max|x|/127 no value should reach
// −128; but where scale and quotient are computed in a narrow type, rounding sends part of the block maxima to ±127.5,
// which rounds to even, to ±128. A two's-complement range keeps −128 and clips +128 to +127: block minima come out too
// low and block maxima too low, so all errors of this kind point the same way. Sums over many blocks, as gradients are,
// gather the bias while everything else averages out. A range of ±127 clips both sides alike.
// Source: arXiv 2510.25602, section on symmetric clipping and its range ablation; what is measured here is the error of
// a mean of gradients, not a training run.

import { bf16Bits, bf16Value, f16Bits, f16Value, roundNearestEven } from '../../formats/bits.ts';
import { gaussianMatrix } from '../gaussian.ts';

export const arithmetics = ['bf16', 'f16', 'f32'] as const;
export type Arithmetic = (typeof arithmetics)[number];

const roundTo: Record<Arithmetic, (x: number) => number> = {
  bf16: (x) => bf16Value(bf16Bits(x)),
  f16: (x) => f16Value(f16Bits(x)),
  f32: Math.fround,
};

/**
 * Share of values x of N(0, 1), each the maximum of its own block, that come out as ±128 when x, the scale |x|/127 and
 * the quotient are rounded to `arithmetic`.
 */
export function beyondRange(arithmetic: Arithmetic, samples: number, seed: number): number {
  const round = roundTo[arithmetic];
  const x = gaussianMatrix(1, samples, seed);
  let beyond = 0;
  for (const value of x) {
    const v = round(value);
    const quotient = round(v / round(Math.abs(v) / 127));
    if (Math.abs(roundNearestEven(quotient)) === 128) beyond++;
  }
  return beyond / samples;
}

/** Rounds blocks of x in place to int8 with scales and quotients in `arithmetic`; `lowest` is −127 or −128. */
function roundBlocks(x: Float32Array, block: number, arithmetic: Arithmetic, lowest: -127 | -128): void {
  const round = roundTo[arithmetic];
  for (let first = 0; first < x.length; first += block) {
    let amax = 0;
    for (let i = first; i < first + block; i++) {
      x[i] = round(x[i]);
      amax = Math.max(amax, Math.abs(x[i]));
    }
    const scale = round(amax / 127);
    if (scale === 0) continue;
    for (let i = first; i < first + block; i++) {
      const code = Math.min(Math.max(roundNearestEven(round(x[i] / scale)), lowest), 127);
      x[i] = code * scale;
    }
  }
}

export interface ClippingBias {
  block: number;
  lowest: -127 | -128;
  /** Mean of x̂ − x over all values, in units of their standard deviation, and its statistical error. */
  bias: number;
  error: number;
  /** RMS over columns of the error of the mean over T rows, in the same units, for each T asked for. */
  meanError: number[];
}

/**
 * The bias of int8 rows (values of N(0, 1), standing for gradients of tokens) with scales in `arithmetic`, and the
 * error of their mean over T rows: it falls as 1/√T until the bias is all that is left.
 */
export function clippingBias(
  block: number,
  lowest: -127 | -128,
  { cols = 256, rows = [1, 16, 256, 4096], seed = 0, arithmetic = 'bf16' as Arithmetic } = {},
): ClippingBias {
  const most = Math.max(...rows);
  const round = roundTo[arithmetic];
  const exact = gaussianMatrix(most, cols, seed).map(round);
  const quantized = exact.slice();
  roundBlocks(quantized, block, arithmetic, lowest);
  let sum = 0;
  let squares = 0;
  const difference = new Float64Array(cols);
  const meanError: number[] = [];
  for (let r = 0; r < most; r++) {
    for (let c = 0; c < cols; c++) {
      const e = quantized[r * cols + c] - exact[r * cols + c];
      sum += e;
      squares += e * e;
      difference[c] += e;
    }
    if (rows.includes(r + 1))
      meanError.push(Math.sqrt(difference.reduce((total, d) => total + (d / (r + 1)) ** 2, 0) / cols));
  }
  const count = most * cols;
  return { block, lowest, bias: sum / count, error: Math.sqrt(squares) / count, meanError };
}
