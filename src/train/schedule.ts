// Learning rate of a step.
//
// With r the peak and p = (step − 1) / steps the share of the run that lies behind:
//   warm-up   from start · r to r, linear, over the first `warmup` of the steps
//   cosine    from r to final · r along half a cosine over the rest
//   linear    the same along a line
//   wsd       r, then final · r along a line over the last `decay` of the steps   (Hu et al. 2024, arXiv:2404.06395)
//   constant  r
// The last step has the final rate.

import type { ScheduleOptions } from './config/sections.ts';

/** The learning rate of step 1 … steps. */
export function learningRateAt(step: number, steps: number, schedule: ScheduleOptions): number {
  const { kind, learningRate: peak, start, final } = schedule;
  const warm = Math.round(schedule.warmup * steps);
  if (step <= warm) return peak * (start + ((1 - start) * step) / warm);
  const falling = kind === 'wsd' ? Math.round(schedule.decay * steps) : steps - warm;
  const done = falling > 0 ? Math.max(0, (step - (steps - falling)) / falling) : 0;
  if (kind === 'constant' || done === 0) return peak;
  const share = kind === 'cosine' ? (1 + Math.cos(Math.PI * done)) / 2 : 1 - done;
  return peak * (final + (1 - final) * share);
}
