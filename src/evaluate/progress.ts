// Progress of an evaluation, for people and for rates in reports.

import { takingTurns } from './yield.ts';

export interface EvaluationProgress {
  /** Tokens run and tokens to run, all of every window. */
  done: number;
  total: number;
  tokensPerSecond: number;
  secondsLeft: number;
}

export interface EvaluationOptions {
  /** T, tokens of a window; 512. */
  window?: number;
  /** B, windows run together; by default about a thousand rows. */
  batch?: number;
  onProgress?: (progress: EvaluationProgress) => void;
  signal?: AbortSignal;
}

/** Reports after each batch, lets the event loop run and stops when asked to. */
export function progressMeter(total: number, options: EvaluationOptions) {
  const started = performance.now();
  let done = 0;
  const turn = takingTurns(options.signal);
  const seconds = () => (performance.now() - started) / 1000;
  return {
    async advance(tokens: number) {
      await turn();
      done = Math.min(done + tokens, total);
      const tokensPerSecond = done / Math.max(seconds(), 1e-9);
      options.onProgress?.({ done, total, tokensPerSecond, secondsLeft: (total - done) / tokensPerSecond });
    },
    seconds,
  };
}
