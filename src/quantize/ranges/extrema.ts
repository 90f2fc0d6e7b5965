// Extrema of activations over samples: the simple static ranges.

import { nonFinite } from './histogram.ts';

export interface Range {
  min: number;
  max: number;
}

export interface Extrema {
  /** Adds one sample (a sequence, a batch); throws a model error on NaN or infinity. Empty samples count as none. */
  add(values: Float32Array): void;
  /** Extrema of everything. */
  readonly all: Range;
  /** Mean over samples of their extrema. */
  readonly mean: Range;
  /** Moving average: r += momentum · (sample − r), from the first sample on. */
  readonly moving: Range;
}

/**
 * Observes extrema.
 *
 * @param momentum weight of a new sample in the moving average
 * @example const e = createExtrema('layers.0.o_proj'); for (const x of samples) e.add(x); e.mean
 */
export function createExtrema(name: string, momentum = 0.01): Extrema {
  let samples = 0;
  const all = { min: 0, max: 0 };
  const sum = { min: 0, max: 0 };
  const moving = { min: 0, max: 0 };
  return {
    add(values) {
      if (values.length === 0) return;
      let min = Infinity;
      let max = -Infinity;
      for (let i = 0; i < values.length; i++) {
        const v = values[i];
        if (v - v !== 0) throw nonFinite(name, v);
        if (v < min) min = v;
        if (v > max) max = v;
      }
      const first = samples++ === 0;
      all.min = first ? min : Math.min(all.min, min);
      all.max = first ? max : Math.max(all.max, max);
      sum.min += min;
      sum.max += max;
      moving.min = first ? min : moving.min + momentum * (min - moving.min);
      moving.max = first ? max : moving.max + momentum * (max - moving.max);
    },
    all,
    get mean() {
      return samples === 0 ? { min: 0, max: 0 } : { min: sum.min / samples, max: sum.max / samples };
    },
    moving,
  };
}
