// reduce (sum, mean, max) and argmax.

import type { ReduceAttributes } from '../../graph/ops/reduce.ts';
import { elementCount } from '../../tensor/shape.ts';
import { type Kernel, type Numbers, numbers, target } from './kernel.ts';

export const reduce: Kernel<ReduceAttributes> = ([x], [y], { kind, axes }) => {
  const from = numbers(x);
  const to = target(y);
  // Sums are gathered in float64 and rounded once.
  const totals = new Float64Array(to.length).fill(kind === 'max' ? -Infinity : 0);
  for (let i = 0; i < from.length; i++) {
    let rest = i;
    let at = 0;
    let stride = 1;
    for (let d = x.shape.length - 1; d >= 0; d--) {
      if (!axes.includes(d)) {
        at += (rest % x.shape[d]) * stride;
        stride *= x.shape[d];
      }
      rest = Math.floor(rest / x.shape[d]);
    }
    totals[at] = kind === 'max' ? Math.max(totals[at], from[i]) : totals[at] + from[i];
  }
  const divisor = kind === 'mean' ? elementCount(axes.map((d) => x.shape[d])) : 1;
  for (let i = 0; i < to.length; i++) to[i] = totals[i] / divisor;
};

/** Index of the first largest of `count` numbers from `first` on. */
export function firstMaximum(values: Numbers, first: number, count: number): number {
  let best = 0;
  for (let i = 1; i < count; i++) if (values[first + i] > values[first + best]) best = i;
  return best;
}

export const argmax: Kernel = ([x], [y]) => {
  const [from, to] = [numbers(x), target(y)];
  const C = x.shape[x.shape.length - 1];
  for (let row = 0; row < to.length; row++) to[row] = firstMaximum(from, row * C, C);
};
