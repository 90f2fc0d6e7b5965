import { describe, expect, it } from 'vitest';
import { computeOptimal } from './base.ts';
import { chinchilla, chinchillaPublished, chinchillaRefit } from './chinchilla.ts';
import { floatingPoint, floatingPointPublished } from './floating-point.ts';
import { type Law, type Point, predict, vectorOf } from './law.ts';
import { outerExponent, quartetBase } from './outer-exponent.ts';
import { optimalTrainingBits, precisionLaw, precisionSensitivities } from './precision.ts';
import { qatGap, qatPublished } from './qat.ts';
import { optimalQatShare } from './qat-share.ts';
import { quartetLaw } from './quartet.ts';
import { questLaw, questPublished } from './quest.ts';
import { equalCostLosses, fullFp4Crossover, trainingSpeedUp } from './speed-up.ts';

const point: Point = {
  n: 3e8,
  d: 7e10,
  group: 64,
  exponentBits: 2,
  mantissaBits: 1,
  block: 32,
  weightBits: 4,
  activationBits: 5,
  cacheBits: 3,
  forward: 'QuEST',
  backward: 'SR',
};
const cases: [Law, Record<string, number>][] = [
  [chinchilla, chinchillaRefit.values],
  [outerExponent, quartetBase.values],
  [
    quartetLaw(['RTN', 'QuEST'], ['SR']),
    { ...quartetBase.values, 'effN(RTN)': 0.6, 'effN(QuEST)': 0.65, 'effD(SR)': 0.9 },
  ],
  [questLaw(['QuEST']), { ...chinchillaRefit.values, 'effN(QuEST)': 0.7 }],
  [qatGap, qatPublished.w4a4.values],
  [floatingPoint, floatingPointPublished.values],
  [precisionLaw, { ...chinchillaRefit.values, ...precisionSensitivities }],
];

describe('gradients of the laws', () => {
  it.each(cases)('$id agrees with central differences', (law, values) => {
    const x = vectorOf(law, values);
    const gradient = new Float64Array(x.length);
    law.evaluate(x, point, gradient);
    x.forEach((value, i) => {
      const h = 1e-5 * Math.abs(value);
      const at = (v: number) => law.evaluate(x.with(i, v), point);
      const numeric = (at(value + h) - at(value - h)) / (2 * h);
      expect(Math.abs(gradient[i]! - numeric) * Math.abs(value), law.parameters[i]!.name).toBeLessThan(
        1e-6 * Math.max(Math.abs(numeric * value), 1e-4),
      );
    });
  });
});

describe('predict', () => {
  it('refuses sizes in millions and tokens in billions', () => {
    const at = (n: number, d: number) => () => predict(chinchilla, chinchillaRefit.values, { n, d });
    expect(at(74, 1e10)).toThrow(/n \(non-embedding parameters\) of the point looks like millions or billions, got 74/);
    expect(at(7.4e7, 20)).toThrow(/d \(training tokens\) of the point looks like millions or billions, got 20.*2e10/);
    expect(at(Number.NaN, 1e10)).toThrow(/not a possible count/);
  });

  it('names a missing field or coefficient', () => {
    expect(() => predict(qatGap, qatPublished.w4a4.values, { n: 1e9, d: 1e10 })).toThrow('lacks group');
    expect(() => predict(chinchilla, { A: 1 }, { n: 1e9, d: 1e10 })).toThrow('parameter alpha has no finite value');
    expect(() => predict(chinchilla, { ...chinchillaRefit.values, gamma: 1 }, { n: 1e9, d: 1e10 })).toThrow(
      'no such parameter, got gamma',
    );
  });
});

describe('published values', () => {
  it('Chinchilla allocates a = 0.513 after the refit and 0.457 before', () => {
    expect(computeOptimal(chinchillaRefit.values, 5.76e23).a).toBeCloseTo(0.513, 3);
    expect(computeOptimal(chinchillaPublished.values, 5.76e23).a).toBeCloseTo(0.457, 3);
  });

  it('the closed-form optimum is the minimum along C = 6ND for every outer exponent', () => {
    const flop = 1e21;
    const best = computeOptimal(quartetBase.values, flop);
    expect(6 * best.n * best.d).toBeCloseTo(flop, -9);
    const loss = (n: number) => predict(outerExponent, quartetBase.values, { n, d: flop / 6 / n });
    for (const factor of [0.9, 0.99, 1.01, 1.1]) expect(loss(best.n * factor)).toBeGreaterThan(loss(best.n));
  });

  it('the training-precision law has its optimum at 3.47 bits, and 1.904 γ for equal sensitivities', () => {
    expect(optimalTrainingBits(Object.values(precisionSensitivities))).toBeCloseTo(3.47, 2);
    expect(optimalTrainingBits([2, 2, 2]) / 2).toBeCloseTo(1.904, 3);
    expect(() => optimalTrainingBits([2])).toThrow('two or more');
  });

  it('Neff/N of the training-precision law at 3, 4, 6 and 8 bits', () => {
    const values = { ...chinchillaRefit.values, A: 1, alpha: 1, B: 1e-3, E: 1e-6, ...precisionSensitivities };
    const ratio = (bits: number) => {
      const loss = predict(precisionLaw, values, {
        n: 1e5,
        d: 1e19,
        weightBits: bits,
        activationBits: bits,
        cacheBits: bits,
      });
      return 1 / (1e5 * (loss - 1e-6));
    };
    for (const [bits, expected] of [
      [3, 0.479],
      [4, 0.639],
      [6, 0.833],
      [8, 0.924],
    ] as const)
      expect(ratio(bits), `${bits} bits`).toBeCloseTo(expected, 3);
  });

  it('the share of quantization-aware training', () => {
    for (const [ratio, two, four] of [
      [20, 0.215, 0.161],
      [100, 0.325, 0.281],
      [1000, 0.444, 0.413],
    ] as const) {
      expect(optimalQatShare(1e9, ratio * 1e9, 2)).toBeCloseTo(two, 3);
      expect(optimalQatShare(1e9, ratio * 1e9, 4)).toBeCloseTo(four, 3);
    }
    expect(() => optimalQatShare(1e9, 1e9, 4)).toThrow('too few tokens');
    expect(() => optimalQatShare(1e9, 1e11, 16)).toThrow('1 to 6 bits');
  });

  it('QuEST: 4 bits give the most efficiency per bit', () => {
    const perBit = [1, 2, 3, 4, 8].map((bits) => questPublished.values[`effN(INT${bits})`]! / bits);
    expect(perBit.map((v) => v.toFixed(3))).toEqual(['0.021', '0.076', '0.144', '0.173', '0.127']);
    const law = questLaw(['INT1', 'INT2', 'INT3', 'INT4', 'FP4', 'INT8']);
    expect(predict(law, questPublished.values, { n: 1e8, d: 1e10, forward: 'INT4' })).toBeGreaterThan(2);
    const unknown = () => predict(law, questPublished.values, { n: 1e8, d: 1e10, forward: 'INT5' });
    expect(unknown).toThrow('no efficiency for forward INT5');
    expect(unknown).toThrow('forward INT1, INT2, INT3, INT4, FP4, INT8, BF16 and backward BF16');
  });

  it('FP4 in both passes wins above the published ratios of tokens to parameters', () => {
    const published = { effN: 0.6478, effD: 0.8918 };
    for (const [n, ratio] of [
      [1e8, 92],
      [1e9, 111],
      [1e10, 133],
      [1e11, 161],
    ] as const)
      expect(
        Math.abs(fullFp4Crossover(outerExponent, quartetBase.values, published, n)! - ratio),
        `N ${n}`,
      ).toBeLessThanOrEqual(2);
    for (const ratio of [1, 10, 100, 1000]) {
      const losses = equalCostLosses(outerExponent, quartetBase.values, published, { n: 1e9, d: ratio * 1e9 });
      expect(Math.min(losses['8:4'], losses['4:4'])).toBeLessThan(Math.min(losses['8:8'], losses['4:8']));
    }
    expect(trainingSpeedUp({ forward: 2, backward: 1 })).toBeCloseTo(1.2, 12);
    expect(trainingSpeedUp({ forward: 1, backward: 2 })).toBeCloseTo(1.5, 12);
  });
});
