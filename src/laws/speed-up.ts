// Which precision for a budget: Quartet's comparison of FP8 and FP4 in the forward and backward pass at equal cost
// (arXiv 2505.14669).
//
// A third of training time is forward, two thirds backward. Given the size that inference can afford in FP8 and the
// training time of that size with so many tokens in FP8, a faster forward pass buys parameters (equal inference cost)
// and a faster training buys tokens; the efficiencies take some of both away. Linear cost only: no memory, no
// attention, no communication.

import { type Law, predict } from './law.ts';

export interface SpeedUp {
  /** Speed of the forward and of the backward pass relative to FP8; 2 and 2 are the ideal of FP4. */
  forward: number;
  backward: number;
}

export type PrecisionPair = '8:8' | '8:4' | '4:8' | '4:4';

/** Speed-up of a whole training step: 1/(⅓/forward + ⅔/backward). */
export const trainingSpeedUp = ({ forward, backward }: SpeedUp) => 1 / (1 / 3 / forward + 2 / 3 / backward);

/**
 * The loss that each choice of forward:backward bits reaches for the same inference cost (that of `n` parameters in
 * FP8) and training time (that of `n`, `d` in FP8).
 *
 * @param efficiency effN and effD of the 4-bit schemes over the coefficients `values` of the base law.
 * @example equalCostLosses(outerExponent, quartetBase.values, { effN: 0.65, effD: 0.89 }, { n: 1e9, d: 1e11 })['4:4'];
 */
export function equalCostLosses(
  base: Law,
  values: Readonly<Record<string, number>>,
  efficiency: { effN: number; effD: number },
  budget: { n: number; d: number },
  speed: SpeedUp = { forward: 2, backward: 2 },
): Record<PrecisionPair, number> {
  const loss = (forward4: boolean, backward4: boolean) => {
    const forward = forward4 ? speed.forward : 1;
    const training = trainingSpeedUp({ forward, backward: backward4 ? speed.backward : 1 });
    const n = budget.n * forward * (forward4 ? efficiency.effN : 1);
    const d = ((budget.d * training) / forward) * (backward4 ? efficiency.effD : 1);
    return predict(base, values, { n, d });
  };
  return { '8:8': loss(false, false), '8:4': loss(false, true), '4:8': loss(true, false), '4:4': loss(true, true) };
}

/**
 * The ratio D/N of the budget above which FP4 in both passes beats FP4 in the backward pass only; undefined when there
 * is no crossing between 0.1 and 1e5 tokens per parameter.
 */
export function fullFp4Crossover(
  base: Law,
  values: Readonly<Record<string, number>>,
  efficiency: { effN: number; effD: number },
  n: number,
  speed?: SpeedUp,
): number | undefined {
  const isFullBetter = (logRatio: number) => {
    const losses = equalCostLosses(base, values, efficiency, { n, d: n * Math.exp(logRatio) }, speed);
    return losses['4:4'] < losses['8:4'];
  };
  let [low, high] = [Math.log(0.1), Math.log(1e5)];
  if (isFullBetter(low) || !isFullBetter(high)) return undefined;
  for (let i = 0; i < 60; i++) {
    const middle = (low + high) / 2;
    if (isFullBetter(middle)) high = middle;
    else low = middle;
  }
  return Math.exp((low + high) / 2);
}
