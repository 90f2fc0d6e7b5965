// The law of floating-point training: L = n/N^α + d/D^β + ε + (D^β/N^α)·log2(B) / (γ·(E+½)^δ·(M+½)^ν)
// (Sun et al., arXiv 2501.02423 v3).
//
// E and M are exponent and mantissa bits, B the elements that share a scale; B = 1 stands for unquantized training.
// γ multiplies in the denominator: the often copied form log2(B^γ) does not give the paper's critical data sizes.
// Fitted with weights (forward and backward) and the activations of the weight gradient quantized, forward
// activations and gradients not: it is no law for fully quantized FP8 or FP4 training, and its unquantized scales say
// nothing of power-of-two scales. Formats without exponent bits were only in the fit channel-wise: do not rank
// integers with it. Closed forms for layouts, critical data and cost are in floating-point-optimum.ts.

import type { Coefficients, Law, Parameter, Point } from './law.ts';

const parameters: readonly Parameter[] = [
  { name: 'n', meaning: 'amplitude of the size term', scale: 'log', lower: 1e-3, upper: 1e15, starts: [20, 400] },
  {
    name: 'alpha',
    meaning: 'exponent of the size',
    scale: 'linear',
    lower: 0,
    upper: 3,
    starts: [0.2, 0.4],
    axis: 'n',
  },
  {
    name: 'd',
    meaning: 'amplitude of the data term',
    scale: 'log',
    lower: 1e-3,
    upper: 1e15,
    starts: [Math.exp(8), Math.exp(11)],
  },
  { name: 'beta', meaning: 'exponent of the tokens', scale: 'linear', lower: 0, upper: 3, starts: [0.4], axis: 'd' },
  { name: 'epsilon', meaning: 'irreducible loss, nats', scale: 'log', lower: 1e-6, upper: 20, starts: [Math.exp(0.5)] },
  {
    name: 'gamma',
    meaning: 'resistance to precision loss',
    scale: 'log',
    lower: 1e-6,
    upper: 1e15,
    starts: [Math.exp(8)],
  },
  {
    name: 'delta',
    meaning: 'exponent of the exponent bits',
    scale: 'linear',
    lower: 0,
    upper: 20,
    starts: [2],
    axis: 'exponentBits',
  },
  {
    name: 'nu',
    meaning: 'exponent of the mantissa bits',
    scale: 'linear',
    lower: 0,
    upper: 20,
    starts: [2],
    axis: 'mantissaBits',
  },
];

function evaluate(v: ArrayLike<number>, point: Point, gradient?: Float64Array): number {
  const [lnN, lnD] = [Math.log(point.n), Math.log(point.d)];
  const [lnE, lnM] = [Math.log(point.exponentBits! + 0.5), Math.log(point.mantissaBits! + 0.5)];
  const size = v[0]! * Math.exp(-v[1]! * lnN);
  const data = v[2]! * Math.exp(-v[3]! * lnD);
  const penalty = (Math.log2(point.block!) / v[5]!) * Math.exp(v[3]! * lnD - v[1]! * lnN - v[6]! * lnE - v[7]! * lnM);
  if (gradient) {
    gradient[0] = size / v[0]!;
    gradient[1] = -(size + penalty) * lnN;
    gradient[2] = data / v[2]!;
    gradient[3] = (penalty - data) * lnD;
    gradient[4] = 1;
    gradient[5] = -penalty / v[5]!;
    gradient[6] = -penalty * lnE;
    gradient[7] = -penalty * lnM;
  }
  return size + data + v[4]! + penalty;
}

export const floatingPoint: Law = {
  id: 'floating-point',
  formula: 'n/N^alpha + d/D^beta + epsilon + D^beta/N^alpha · log2(B)/(gamma·(E+½)^delta·(M+½)^nu)',
  predicts: 'loss',
  parameters,
  needs: ['exponentBits', 'mantissaBits', 'block'],
  evaluate,
};

export const floatingPointPublished: Coefficients = {
  law: 'floating-point',
  source: 'arXiv 2501.02423 v3, table 2 (validation loss, Dolma; N counts linear weights only)',
  values: {
    n: 69.2343,
    alpha: 0.2368,
    d: 68973.0621,
    beta: 0.5162,
    epsilon: 1.9061,
    gamma: 11334.5197,
    delta: 3.1926,
    nu: 2.9543,
  },
};

/** The block size that channel-wise scaling is equivalent to, a fitted constant: log2 B = 13.1567. */
export const channelBlock = 2 ** 13.1567;
