// A histogram of magnitudes that grows with its data: what static ranges of activations are computed from.
//
// The range is a power of two, [0, 2^e), in equal bins. A larger value doubles it by merging neighbours, so the counts are
// those that one pass with the final range would have given: they do not depend on the order of the data or on how it
// came in pieces. At least half of the bins lie below the largest magnitude.

import { modelError } from '../../errors.ts';

export interface Histogram {
  /** Values that were counted. */
  readonly total: number;
  /** Largest magnitude, exactly. */
  readonly amax: number;
  /** Width of a bin. */
  readonly width: number;
  /** counts[i]: magnitudes in [i · width, (i + 1) · width). */
  readonly counts: Float64Array;
  /** Counts the magnitudes of values; throws a model error on NaN or infinity. */
  add(values: Float32Array): void;
}

const smallest = 2 ** -149;

/**
 * An empty histogram.
 *
 * @param name of the tensor, for messages
 * @param bins a multiple of two
 * @example const h = createHistogram('layers.0.down_proj'); h.add(x); entropyRange(h, 8)
 */
export function createHistogram(name: string, bins = 2048): Histogram {
  if (!(bins >= 2 && bins % 2 === 0)) throw new Error(`createHistogram: ${bins} bins`);
  const counts = new Float64Array(bins);
  let range = smallest;
  let amax = 0;
  let total = 0;

  const double = () => {
    for (let i = 0; i < bins / 2; i++) counts[i] = counts[2 * i] + counts[2 * i + 1];
    counts.fill(0, bins / 2);
    range *= 2;
  };

  return {
    get total() {
      return total;
    },
    get amax() {
      return amax;
    },
    get width() {
      return range / bins;
    },
    counts,
    add(values) {
      let most = amax;
      for (let i = 0; i < values.length; i++) {
        const a = Math.abs(values[i]);
        if (!(a < Infinity)) throw nonFinite(name, values[i]);
        if (a > most) most = a;
      }
      amax = most;
      while (amax >= range) double();
      // powers of two: the product is exact
      const perValue = bins / range;
      for (let i = 0; i < values.length; i++) counts[Math.floor(Math.abs(values[i]) * perValue)]++;
      total += values.length;
    },
  };
}

export function nonFinite(name: string, value: number) {
  return modelError({
    code: 'non-finite-activation',
    op: 'calibrate',
    problem: 'an activation is not finite',
    got: String(value),
    expected: 'finite numbers',
    fix: 'look for an overflow in the layers before, or leave this layer out',
    tensor: name,
  });
}
