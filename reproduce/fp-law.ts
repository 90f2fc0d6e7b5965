// The law of floating-point training (arXiv 2501.02423): its critical data sizes, layouts and cost-optimal bits from its
// constants, and its constants from synthetic runs at its grid, as its runs are not public.

import { channelBlock, floatingPoint, floatingPointPublished } from '../src/laws/floating-point.ts';
import { criticalTokens, optimalBits } from '../src/laws/floating-point-optimum.ts';
import { predict } from '../src/laws/law.ts';
import { optimalTrainingBits, precisionSensitivities } from '../src/laws/precision.ts';
import { chart, logSpace } from '../src/plot/plot.ts';
import type { Correction, Report, Reproduction, Section } from '../src/report/reproduction.ts';
import { bitsClaims, criticalClaims, layoutClaims, lossClaims, orderingClaims } from './fp/consequences.ts';
import { recoveryClaims } from './fp/recovery.ts';

const { values } = floatingPointPublished;
const formats = [
  ['E2M1', 2, 1],
  ['E3M2', 3, 2],
  ['E4M3', 4, 3],
  ['E8M7 (BF16)', 8, 7],
] as const;

function criticalPlot(): Section {
  const tokens = logSpace(1e10, 1e16, 80);
  const spec = chart({
    title: 'More data than the precision can hold: 1B parameters, blocks of 128',
    subtitle: 'each curve turns at its critical data size',
    x: { title: 'D, training tokens', scale: 'log' },
    y: { title: 'predicted loss, nats a token', domain: [2.38, 2.9] },
    series: formats.map(([name, exponentBits, mantissaBits]) => ({
      name,
      points: tokens.map(
        (d) => [d, predict(floatingPoint, values, { n: 1e9, d, exponentBits, mantissaBits, block: 128 })] as const,
      ),
    })),
    rules: formats.map(([name, e, m]) => ({
      axis: 'x',
      at: criticalTokens(values, 1e9, e, m, 128),
      label: name.slice(0, 4),
    })),
  });
  return { title: 'Critical data sizes', plot: { name: 'critical', spec } };
}

function bitsPlot(): Section {
  const budgets = logSpace(1e20, 1e32, 60);
  const spec = chart({
    title: 'Cost-optimal bits by compute budget',
    subtitle: 'size, tokens and bits free; cost (6/16)·N·D·P',
    x: { title: 'C, FLOP of 16-bit training', scale: 'log' },
    y: { title: 'P, bits' },
    series: [32, 128, 512].map((block) => ({
      name: `blocks of ${block}`,
      points: budgets.map((flop) => [flop, optimalBits(values, flop, block).bits] as const),
    })),
  });
  return { title: 'Cost-optimal bits', plot: { name: 'bits', spec } };
}

/** [d·γ·N^α·q/log2 B]^(1/β): Eq. (41) read literally. */
function literalCritical(e: number, m: number): number {
  return criticalTokens(values, 1e9, e, m, 128) ** 2;
}

/** With log2(B^γ) = γ·log2 B the constant multiplies the penalty in place of dividing it. */
function copiedCritical(e: number, m: number): number {
  return criticalTokens({ ...values, gamma: 1 / values.gamma }, 1e9, e, m, 128);
}

function corrections(): Correction[] {
  const tera = (tokens: number) => `${(tokens / 1e12).toPrecision(3)} T`;
  const sensitivities = Object.values(precisionSensitivities);
  const bits = optimalTrainingBits(sensitivities);
  return [
    {
      printed: 'Eq. (41): the critical data size is given by D^β.',
      instead: 'By D^(2β), as Eq. (21) has it.',
      evidence: `With D^(2β) the three published sizes come out (claims). With D^β E2M1 at 1B would have ${literalCritical(2, 1).toExponential(1)} tokens.`,
    },
    {
      printed: 'A widely copied form of the law has log2(B^γ) in the numerator.',
      instead: 'log2(B) in the numerator and γ as a factor of the denominator.',
      evidence: `The copied form gives critical sizes of ${formats.map(([, e, m]) => copiedCritical(e, m).toExponential(1)).join(', ')} tokens for ${formats.map(([name]) => name.slice(0, 4)).join(', ')}; the paper prints 0.4 T, 27 T and 1730 T, and the form used here gives ${tera(criticalTokens(values, 1e9, 2, 1, 128))}, ${tera(criticalTokens(values, 1e9, 4, 3, 128))} and ${tera(criticalTokens(values, 1e9, 8, 7, 128))}.`,
    },
    {
      printed: 'Kumar et al. (arXiv 2411.04330): 7 to 8 bits are compute-optimal.',
      instead: `Their printed sensitivities (${sensitivities.join(', ')}) give ${bits.toFixed(2)} bits.`,
      evidence: `At a cost proportional to N·D·P the optimum solves Σ x/(eˣ − 1) = 1, x = P/γ. Three equal sensitivities would have to be ${(7 / optimalTrainingBits([1, 1, 1])).toFixed(1)} to ${(8 / optimalTrainingBits([1, 1, 1])).toFixed(1)} for 7 to 8 bits.`,
    },
  ];
}

const reproduction: Reproduction = {
  name: 'fp-law',
  summary: 'the law of floating-point training: critical data, layouts, cost-optimal bits, recovery',
  async run({ seed, signal, onProgress }): Promise<Report> {
    const trials = 100;
    const recovery = await recoveryClaims(trials, seed + 1, (done) => {
      signal?.throwIfAborted();
      onProgress?.(done, 'recovery');
    });
    return {
      title: 'The scaling law of floating-point training',
      paper: 'Sun et al., arXiv 2501.02423 v3 (366 trainings, 41M to 70B parameters, up to 105B tokens).',
      protocol: `The constants of its table 2 in raw counts (N counts linear weights). Synthetic runs: the 22 layouts and blocks of its table 3 and BF16 at four sizes and four token counts (${recovery.runs} runs), 0.1 % noise on the loss, ${trials} trials, Huber's threshold 1e-3, seed ${seed + 1}. Channel-wise scales count as blocks of 2^13.1567 = ${channelBlock.toFixed(0)}. The paper's own runs are not public.`,
      claims: [
        ...criticalClaims(),
        ...layoutClaims(),
        ...bitsClaims(),
        ...lossClaims(),
        ...orderingClaims(),
        ...recovery.claims,
      ],
      corrections: corrections(),
      sections: [
        criticalPlot(),
        bitsPlot(),
        {
          title: 'What this law is not',
          text: 'It was fitted with weights (forward and backward) and the activations of the weight gradient quantized; forward activations and gradients stayed in high precision, and scales were not quantized. It says nothing of training with all operands in FP8 or FP4, and formats without exponent bits were in the fit with channel-wise scales alone: do not rank integers with it. N and D of the joint optimum are properties of a fit whose β is far above its α.',
        },
      ],
    };
  },
};

export default reproduction;
