// The static range of a layer's input, from the values that calibration shows it.
//
//   minmax      the extremes seen
//   percentile  the magnitude below which that share of the values lies
//   mse, kl     the magnitude with the smallest squared error, or divergence, of the format (histogram-range.ts)
// The last three bound a histogram of magnitudes; the range of a format with a zero point is the extremes cut at that
// magnitude. The result is the scale of fixed-scale.ts. It does not depend on the order of the values.

import { type FixedScale, fixedScaleOf } from '../../formats/fixed-scale.ts';
import type { QuantSpec } from '../../formats/format.ts';
import { intBits, isInt } from '../../formats/table.ts';
import type { ClipRule } from '../recipe/activations.ts';
import { createExtrema, type Range } from './extrema.ts';
import { createHistogram, type Histogram } from './histogram.ts';
import { entropyRange, percentileRange, squaredErrorRange } from './histogram-range.ts';

/** How the range of an input is chosen. */
export interface RangeRule {
  /** One that takes a fixed scale; symmetric for mse, a symmetric integer for kl. */
  readonly format: QuantSpec;
  readonly clip: ClipRule;
  /** In percent, for clip percentile. */
  readonly percentile?: number;
}

export interface InputRange {
  /** Throws a model error on NaN and infinity. */
  add(values: Float32Array): void;
  /** What a rule makes of the values so far. */
  choose(rule: RangeRule): ChosenRange;
}

export interface ChosenRange extends Range {
  readonly fixed: FixedScale;
  /** Largest magnitude seen; 0: nothing but zeros, and the range is a guess. */
  readonly amax: number;
}

/**
 * Observes an input.
 *
 * @param name of a layer that reads it, for messages
 * @param counting whether rules other than minmax will be asked for
 */
export function observeRange(name: string, counting: boolean): InputRange {
  const extrema = createExtrema(name);
  const histogram = counting ? createHistogram(name) : undefined;
  return {
    add(values) {
      extrema.add(values);
      histogram?.add(values);
    },
    choose(rule) {
      const { min, max } = extrema.all;
      const amax = Math.max(-min, max);
      const bound = rule.clip === 'minmax' || amax === 0 ? amax : reach(histogram as Histogram, rule);
      const range = { min: Math.max(min, -bound), max: Math.min(max, bound) };
      return { ...range, amax, fixed: fixedScaleOf(rule.format, range.min, range.max) };
    },
  };
}

function reach(histogram: Histogram, { format, clip, percentile = 100 }: RangeRule): number {
  if (clip === 'percentile') return percentileRange(histogram, percentile);
  if (clip === 'kl' && isInt(format.element)) return entropyRange(histogram, intBits[format.element]);
  return squaredErrorRange(histogram, format);
}
