// Codebooks: a short sorted list of values; x / step goes to the nearest, ties to the lower one.
//
// NF4 (Dettmers et al., QLoRA, arXiv 2305.14314): the library's constants, not the quantile formula. Ternary: −1, 0, 1
// as codes 0, 1, 2. log2 (FQ-ViT, arXiv 2111.13824): value 2^−q for code q, for non-negative data such as softmax
// outputs; the last code stands for zero, because the published rule's "zero when the rounded exponent is out of
// range" needs a code of its own. Its thresholds 2^−(q + 1/2) are nearest in the exponent, not in the value.

import type { CodebookElement, Rounding } from './format.ts';

export interface Codebook {
  /** Value of each code. */
  readonly values: Float32Array;
  /** Codes in ascending order of value. */
  readonly order: Uint8Array;
  /** thresholds[i] separates order[i] and order[i + 1]: above it goes up. */
  readonly thresholds: Float32Array;
}

const nf4Values = [
  -1, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
  -0.09105003625154495, 0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
  0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1,
];

/** Codebook of ascending values with the midpoints as thresholds. */
function ascending(values: readonly number[]): Codebook {
  return {
    values: Float32Array.from(values),
    order: Uint8Array.from(values.keys()),
    thresholds: Float32Array.from({ length: values.length - 1 }, (_, i) => (values[i]! + values[i + 1]!) / 2),
  };
}

function log2Codebook(bits: number): Codebook {
  const last = 2 ** bits - 1;
  const values = Float32Array.from({ length: last + 1 }, (_, q) => (q === last ? 0 : 2 ** -q));
  const order = Uint8Array.from({ length: last + 1 }, (_, i) => last - i);
  // between zero and the smallest power the exponent rule goes on: the next power would start at 2^-(last − 1/2)
  const thresholds = Float32Array.from({ length: last }, (_, i) => 2 ** -(last - 1 - i + 0.5));
  return { values, order, thresholds };
}

export const codebooks: Readonly<Record<CodebookElement, Codebook>> = {
  nf4: ascending(nf4Values),
  ternary: ascending([-1, 0, 1]),
  'log2-3': log2Codebook(3),
  'log2-4': log2Codebook(4),
  'log2-8': log2Codebook(8),
};

/** Code whose value is nearest to x / step (step > 0; a zero step gives the code of zero). */
export function encodeCodebook(book: Codebook, x: number, step: number, rounding: Rounding, u = 0): number {
  const { values, order, thresholds } = book;
  let low = 0;
  let high = thresholds.length;
  // the number of thresholds below x; in the stochastic case of neighbours' lower values at most x
  while (low < high) {
    const middle = (low + high) >>> 1;
    const bound =
      rounding === 'stochastic'
        ? Math.fround(step * values[order[middle + 1]!]!)
        : Math.fround(step * thresholds[middle]!);
    const above = rounding === 'stochastic' ? x >= bound : x > bound;
    if (above && step !== 0) low = middle + 1;
    else high = middle;
  }
  if (step === 0) return values.indexOf(0);
  if (rounding === 'stochastic' && low < thresholds.length) {
    const from = values[order[low]!]!;
    const to = values[order[low + 1]!]!;
    if (x > Math.fround(step * Math.fround(from + u * (to - from)))) low++;
  }
  return order[low]!;
}
