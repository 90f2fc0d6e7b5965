// The law of quantization-aware training: L = A/N^α + B/D^α + E + δ, δ = k·D^γD·(log2 G)^γG / N^γN
// (Chen et al., arXiv 2505.14302; 4-bit integers, Llama shapes of 74M to 595M, 10B to 100B tokens, groups of 32 to a
// whole row).
//
// δ is the loss of a run minus that of its BF16 twin (the paper prints the subtraction the other way round). G counts
// the elements that share a scale; per token or per channel it is the row length. It is a local fit: δ grows with D
// without end, so beyond `qatCriticalTokens` the sum rises again. Where text and table of the paper differ (γG of
// W16A4: 0.9821 and 0.9812; with the FC2 input at 8 bits: 0.4471 and 0.4491) the table is used.

import type { Coefficients, Law, Parameter, Point } from './law.ts';

const exponent = (name: string, meaning: string, axis: keyof Point): Parameter => ({
  name,
  meaning,
  scale: 'linear',
  lower: -2,
  upper: 3,
  starts: [0.2],
  axis,
});

const parameters: readonly Parameter[] = [
  { name: 'k', meaning: 'amplitude of the gap', scale: 'log', lower: 1e-12, upper: 1e12, starts: [0.2] },
  exponent('gammaN', 'how the gap falls with size', 'n'),
  exponent('gammaD', 'how the gap grows with tokens', 'd'),
  exponent('gammaG', 'how the gap grows with the logarithm of the group', 'group'),
];

function evaluate(v: ArrayLike<number>, point: Point, gradient?: Float64Array): number {
  const [lnN, lnD, lnG] = [Math.log(point.n), Math.log(point.d), Math.log(Math.log2(point.group!))];
  // A group of one element has log2 G = 0: nothing is lost, whatever the parameters.
  const gap = point.group! > 1 ? v[0]! * Math.exp(v[2]! * lnD + v[3]! * lnG - v[1]! * lnN) : 0;
  if (gradient) {
    gradient[0] = gap / v[0]!;
    gradient[1] = -gap * lnN;
    gradient[2] = gap * lnD;
    gradient[3] = gap === 0 ? 0 : gap * lnG;
  }
  return gap;
}

/** δ in nats as a function of n, d and group. */
export const qatGap: Law = {
  id: 'qat',
  formula: 'k·D^gammaD·log2(G)^gammaG/N^gammaN',
  predicts: 'gap',
  parameters,
  needs: ['group'],
  evaluate,
};

export type QatOperands = 'w4a4' | 'w4a16' | 'w16a4' | 'w4a4-fc2a8' | 'w16a4-fc2a8';

const published = (k: number, gammaN: number, gammaD: number, gammaG: number): Coefficients => ({
  law: 'qat',
  source: 'arXiv 2505.14302, table 1',
  values: { k, gammaN, gammaD, gammaG },
});

/** Coefficients by the operands in 4 bits; `fc2a8` keeps the input of the second FFN matrix at 8 bits. */
export const qatPublished: Readonly<Record<QatOperands, Coefficients>> = {
  w4a4: published(0.1582, 0.2186, 0.0745, 0.7779),
  w4a16: published(0.2522, 0.3589, 0.161, 0.3533),
  w16a4: published(0.1004, 0.1816, 0.0331, 0.9812),
  'w4a4-fc2a8': published(0.3519, 0.2637, 0.0964, 0.3407),
  'w16a4-fc2a8': published(0.1273, 0.2347, 0.0827, 0.4491),
};

/** The BF16 part; fitted with α = β (tie them when refitting). Values belong to the law `chinchilla`. */
export const qatBase: Coefficients = {
  law: 'chinchilla',
  source: 'arXiv 2505.14302, table 1 (training loss, OLMo-2 mix)',
  values: { A: 237.7042, alpha: 0.3022, B: 596.249, beta: 0.3022, E: 1.9279 },
};

/**
 * The factor on N that would explain the gap: eff = [A/(A + δ·N^α)]^(1/α). Above 0.5, W4A4 beats a lossless W8A8 of
 * twice the cost per parameter.
 */
export function qatEfficiency(base: Readonly<Record<string, number>>, gap: number, n: number): number {
  const { A, alpha } = base;
  return (A! / (A! + gap * n ** alpha!)) ** (1 / alpha!);
}

/**
 * Tokens beyond which more data raises the predicted loss: D^(β+γD) = β·B·N^γN / (γD·k·(log2 G)^γG).
 *
 * @example qatCriticalTokens(qatBase.values, qatPublished.w4a4.values, 595e6, 128); // ≈ 2.8e14
 */
export function qatCriticalTokens(
  base: Readonly<Record<string, number>>,
  gap: Readonly<Record<string, number>>,
  n: number,
  group: number,
): number {
  const rise = gap.gammaD! * gap.k! * Math.log2(group) ** gap.gammaG!;
  return ((base.beta! * base.B! * n ** gap.gammaN!) / rise) ** (1 / (base.beta! + gap.gammaD!));
}
