// The precision law of Kumar et al. (arXiv 2411.04330): L = A/Neff^α + B/D^β + E,
// Neff = N·(1−e^(−Pw/γw))·(1−e^(−Pa/γa))·(1−e^(−Pkv/γkv)).
//
// Pw, Pa and Pkv are bits of weights, activations and the KV cache during training. Only the three γ are given here
// as published: the other five belong to one corpus and must be refitted. The claim that 7 to 8 bits are
// compute-optimal does not follow from these γ: with C = (6/16)·N·D·P the condition is Σ x/(e^x − 1) = 1, x = P/γ, which
// `optimalTrainingBits` solves to 3.47. Post-training terms of the paper are not included.

import { userError } from '../errors.ts';
import { chinchilla } from './chinchilla.ts';
import type { Law, Parameter, Point } from './law.ts';

const sensitivity = (name: string, axis: keyof Point): Parameter => ({
  name,
  meaning: `bits that remove a factor e of the loss of ${axis}`,
  scale: 'log',
  lower: 0.01,
  upper: 100,
  starts: [2],
  axis,
});
const axes = ['weightBits', 'activationBits', 'cacheBits'] as const;

function evaluate(v: ArrayLike<number>, point: Point, gradient?: Float64Array): number {
  let lnFactor = 0;
  for (let i = 0; i < 3; i++) lnFactor += Math.log(-Math.expm1(-point[axes[i]!]! / v[5 + i]!));
  const lnN = Math.log(point.n) + lnFactor;
  const lnD = Math.log(point.d);
  const size = v[0]! * Math.exp(-v[1]! * lnN);
  const data = v[2]! * Math.exp(-v[3]! * lnD);
  if (gradient) {
    gradient.set([size / v[0]!, -size * lnN, data / v[2]!, -data * lnD, 1]);
    for (let i = 0; i < 3; i++) {
      const x = point[axes[i]!]! / v[5 + i]!;
      gradient[5 + i] = (v[1]! * size * x) / v[5 + i]! / Math.expm1(x);
    }
  }
  return size + data + v[4]!;
}

export const precisionLaw: Law = {
  id: 'precision',
  formula: 'A/(N·Π(1−e^(−P/gamma)))^alpha + B/D^beta + E',
  predicts: 'loss',
  parameters: [
    ...chinchilla.parameters,
    sensitivity('gammaW', 'weightBits'),
    sensitivity('gammaA', 'activationBits'),
    sensitivity('gammaKV', 'cacheBits'),
  ],
  needs: axes,
  evaluate,
};

/** The three sensitivities of arXiv 2411.04330, appendix K table 2 (as quoted in third-party code). */
export const precisionSensitivities = { gammaW: 2.6745, gammaA: 2.2102, gammaKV: 0.9578 };

/**
 * The compute-optimal bits when weights, activations and cache share one precision: the root of Σ x/(e^x − 1) = 1.
 *
 * @example optimalTrainingBits([2.6745, 2.2102, 0.9578]); // ≈ 3.47
 * @throws SubbyteError `law-coefficients` when a sensitivity is not positive or there are fewer than two.
 */
export function optimalTrainingBits(sensitivities: readonly number[]): number {
  if (sensitivities.length < 2 || !sensitivities.every((g) => g > 0 && Number.isFinite(g)))
    throw userError({
      code: 'law-coefficients',
      op: 'precision',
      problem: 'an interior optimum needs two or more positive sensitivities',
      got: sensitivities.join(', '),
    });
  // The sum falls from the number of terms to 0 as P grows, so bisection on [0, 100·max] brackets the root.
  let [low, high] = [0, 100 * Math.max(...sensitivities)];
  for (let i = 0; i < 200; i++) {
    const bits = (low + high) / 2;
    const sum = sensitivities.reduce((s, g) => s + bits / g / Math.expm1(bits / g), 0);
    if (sum > 1) low = bits;
    else high = bits;
  }
  return (low + high) / 2;
}
