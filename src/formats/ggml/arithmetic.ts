// Single-precision helpers that ggml's bytes depend on.
//
// The block quantizers are defined by sequential f32 arithmetic: every +, −, ×, ÷ is rounded to f32 (Math.fround), in
// the written order, without fused multiply-add. Where a value leaves the integer range, C leaves the conversion open;
// the contract here is what x86-64 machines do, so that degenerate blocks give llama.cpp's bytes too.

const f = Math.fround;
const floatView = new Float32Array(1);
const bitsView = new Int32Array(floatView.buffer);

/** Below this magnitude a group counts as zero in the scale searches. */
export const groupEpsilon = f(1e-15);

/**
 * Round an f32 to the nearest integer, ties to even, by adding 1.5·2^23 and reading the mantissa. Outside ±(2^22 − 1)
 * the result is the mantissa's low bits all the same, as in ggml; NaN gives 0, ±infinity −2^22.
 */
export function nearestInt(value: number): number {
  if (value >= -4194303 && value <= 4194303) return (f(value + 12582912) - 12582912) | 0;
  floatView[0] = f(value + 12582912);
  return (bitsView[0] & 0x7fffff) - 0x400000;
}

/** Conversion of an f32 to int32 that truncates; anything out of range becomes −2^31 (cvttss2si). */
export function truncateToInt(value: number): number {
  return value > -2147483649 && value < 2147483648 ? Math.trunc(value) | 0 : -2147483648;
}

/** roundf then conversion to int32: halves away from zero. */
export function roundAway(value: number): number {
  // value + 0.5 is exact in f64 for every f32, so no half is lost to rounding.
  return truncateToInt(value < 0 ? Math.ceil(value - 0.5) : Math.floor(value + 0.5));
}

/** 1/v rounded to f32, 0 for v = 0. */
export function reciprocal(value: number): number {
  return value !== 0 ? f(1 / value) : 0;
}

export function clamp(value: number, low: number, high: number): number {
  return value < low ? low : value > high ? high : value;
}

/** Sum of squares of x[at … at+n), sequential f32. */
export function sumOfSquares(x: Float32Array, at: number, n: number): number {
  let sum = 0;
  for (let i = at; i < at + n; i++) sum = f(sum + f(x[i] * x[i]));
  return sum;
}

/**
 * Importance weights of the K and legacy types: w[i] = importance[i]·√(sigma2 + x[i]²).
 * Writes w[0 … n) and returns their sum.
 */
export function importanceWeights(
  x: Float32Array,
  importance: Float32Array,
  at: number,
  n: number,
  sigma2: number,
  w: Float32Array,
): number {
  let sum = 0;
  for (let i = 0; i < n; i++) {
    const v = x[at + i];
    w[i] = f(importance[at + i] * f(Math.sqrt(f(sigma2 + f(v * v)))));
    sum = f(sum + w[i]);
  }
  return sum;
}

/** The element of largest magnitude with its sign; the first one wins a tie. 0 for an empty or all-zero range. */
export function signedMaximum(x: Float32Array, at: number, n: number): number {
  let magnitude = 0;
  let signed = 0;
  for (let i = at; i < at + n; i++) {
    const a = Math.abs(x[i]);
    if (a > magnitude) {
      magnitude = a;
      signed = x[i];
    }
  }
  return signed;
}
