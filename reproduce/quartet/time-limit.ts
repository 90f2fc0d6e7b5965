// When a study with a time limit stops: between two steps when the time is up, and before a training that would not end
// in time although it would in a call of its own. What is left of the time would be lost where checkpoints are not kept.

import { SubbyteError } from '../../src/errors.ts';

export interface TimeLimit {
  /** Aborts when the time is up, or when the caller's signal does. */
  readonly signal: AbortSignal;
  isUp(): boolean;
  /** Takes note of what a training took in all, and its steps alone; of each lane's first, what it had to compile. */
  took(steps: number, seconds: number, ofSteps: number, isFirst: boolean): void;
  /** Whether a training of so many steps is worth beginning; true where nothing is known of how long it takes. */
  allows(steps: number): boolean;
  stop(): void;
}

/** Seconds since the start of the process. */
export const sinceStart = () => performance.now() / 1000;

/** `minutes` count from the start of the process; none: no limit. To be called when the first training may begin. */
export function timeLimit(minutes: number | undefined, signal: AbortSignal | undefined, now = sinceStart): TimeLimit {
  const controller = new AbortController();
  const end = minutes === undefined ? Number.POSITIVE_INFINITY : 60 * minutes;
  const left = () => end - now();
  /** What a call has for trainings; what comes behind them is to have a tenth. */
  const whole = 0.9 * left();
  const stop = () =>
    controller.abort(
      new SubbyteError('interrupted', { code: 'time-limit', op: 'reproduce quartet', problem: 'time is up' }),
    );
  if (left() <= 0) stop();
  // timers hold 31 bits: a longer limit is none
  const timer = left() > 0 && 1000 * left() < 2 ** 31 ? setTimeout(stop, 1000 * left()) : undefined;
  /** The most so far of a step, and of a training besides its steps: where a lane begins, and later. */
  let perStep: number | undefined;
  const besides = { first: 0, later: undefined as number | undefined };
  const expected = (steps: number, step: number) => step * steps + (besides.later ?? besides.first);
  return {
    signal: signal ? AbortSignal.any([signal, controller.signal]) : controller.signal,
    isUp: () => controller.signal.aborted,
    took: (steps, seconds, ofSteps, isFirst) => {
      perStep = Math.max(perStep ?? 0, ofSteps / steps);
      const rest = Math.max(0, seconds - ofSteps);
      if (isFirst) besides.first = Math.max(besides.first, rest);
      else besides.later = Math.max(besides.later ?? 0, rest);
    },
    allows: (steps) => perStep === undefined || expected(steps, perStep) <= left() || expected(steps, perStep) > whole,
    stop: () => clearTimeout(timer),
  };
}
