// The largest magnitude that a static scale should cover, from a histogram of magnitudes (ptq-core 3.1).
//
//   percentile  the first edge below which that share of the values lies
//   mse         the center of a bin, from bin 128 on: smallest Σ count · (Q(c) − c)² over the bins' centers c
//   entropy     the edge after i bins, i from 128 on: smallest KL(P ‖ Q), P the first i bins with everything beyond in the
//               last, Q those bins merged into the levels of the element, each level spread evenly over its bins that are
//               not empty. Of equal divergences the widest range. Bin 0 counts as many as bin 1: exact zeros would
//               decide otherwise.
// The entropy search is that of TensorRT and Model Optimizer. Differences to the latter, on purpose: the percentile's edge
// is the one above its bin, and no range exceeds the largest magnitude seen. P and Q are normalized here; there a helper
// that should do it has no effect, and the library's entropy function makes up for it.

import { elementCodec } from '../../formats/element.ts';
import type { QuantSpec } from '../../formats/format.ts';
import type { Histogram } from './histogram.ts';

const firstBin = 128;

/** Number of the last bin with values; −1 when all are empty. */
const lastFilled = ({ counts }: Histogram): number => counts.findLastIndex((c) => c > 0);

/** Magnitude that covers `percent` of the values; 99.99 is usual. */
export function percentileRange(histogram: Histogram, percent: number): number {
  const { counts, width, total, amax } = histogram;
  const wanted = (percent / 100) * total;
  let below = 0;
  for (let i = 0; i < counts.length; i++) {
    below += counts[i];
    if (below >= wanted) return Math.min((i + 1) * width, amax);
  }
  return amax;
}

/**
 * Magnitude with the smallest squared error of a symmetric element.
 *
 * @param spec its element, range convention and granularity; scales are not rounded here
 */
export function squaredErrorRange(histogram: Histogram, spec: QuantSpec): number {
  const { counts, width, amax } = histogram;
  const last = lastFilled(histogram);
  const codec = elementCodec(spec);
  const top = Math.abs(codec.max);
  const values = [...new Set(codec.values.map(Math.abs))].filter((v) => v <= top).sort((a, b) => a - b);
  let best = amax;
  let smallest = Infinity;
  for (let candidate = Math.min(firstBin, last); candidate <= last; candidate++) {
    const range = Math.min((candidate + 0.5) * width, amax);
    const step = range / top;
    let error = 0;
    // values and bins both ascend
    for (let bin = 0, v = 0; bin <= last && error < smallest; bin++) {
      const center = (bin + 0.5) * width;
      while (v + 1 < values.length && center > (step * (values[v] + values[v + 1])) / 2) v++;
      error += counts[bin] * (center - step * values[v]) ** 2;
    }
    if (error < smallest) {
      smallest = error;
      best = range;
    }
  }
  return best;
}

/** Magnitude with the smallest divergence of what `bits`-bit symmetric integers keep of the distribution. */
export function entropyRange(histogram: Histogram, bits: number): number {
  const { width, amax } = histogram;
  const counts = histogram.counts.slice(0, lastFilled(histogram) + 1);
  if (counts.length > 1) counts[0] = counts[1];
  const levels = 2 ** (bits - 1);
  const mass = new Float64Array(levels);
  const filled = new Float64Array(levels);
  const total = counts.reduce((a, b) => a + b, 0);
  let best = amax;
  let smallest = Infinity;
  let tail = total - counts.subarray(0, firstBin).reduce((a, b) => a + b, 0);
  for (let i = firstBin; i <= counts.length; i++) {
    mass.fill(0);
    filled.fill(0);
    for (let b = 0; b < i; b++) {
      if (counts[b] === 0) continue;
      const level = Math.floor((b * levels) / i);
      mass[level] += counts[b];
      filled[level]++;
    }
    // Σ Q is what lies below; Σ P is everything
    const inside = total - tail;
    let divergence = 0;
    for (let b = 0; b < i; b++) {
      const p = b === i - 1 ? counts[b] + tail : counts[b];
      if (p === 0) continue;
      if (counts[b] === 0) divergence = Infinity;
      else {
        const level = Math.floor((b * levels) / i);
        divergence += (p / total) * Math.log((p * inside * filled[level]) / (total * mass[level]));
      }
    }
    if (divergence <= smallest) {
      smallest = divergence;
      best = i * width;
    }
    if (i < counts.length) tail -= counts[i];
  }
  return Math.min(best, amax);
}
