import { describe, expect, it } from 'vitest';
import { gaussian } from '../../test/fixtures/laws/published.ts';
import { fitLaw } from './fit.ts';
import { channelBlock, floatingPoint, floatingPointPublished } from './floating-point.ts';
import {
  criticalTokens,
  layoutFreeGamma,
  layoutQuality,
  optimalBits,
  optimalBitsForSize,
  optimalBitsForTokens,
  optimalLayout,
} from './floating-point-optimum.ts';
import { predict } from './law.ts';
import { precisionLaw } from './precision.ts';

const { values } = floatingPointPublished;
const loss = (n: number, d: number, exponentBits: number, mantissaBits: number, block: number) =>
  predict(floatingPoint, values, { n, d, exponentBits, mantissaBits, block });

describe('the law of floating-point training', () => {
  it.each([
    [40894464, 10485760000, 8, 7, channelBlock, 3.4607],
    [40894464, 10485760000, 1, 1, channelBlock, 3.6859],
    [40894464, 10485760000, 2, 1, channelBlock, 3.5048],
    [679477248, 104857600000, 1, 1, 32, 2.7526],
    [679477248, 104857600000, 2, 1, 32, 2.6364],
    [679477248, 104857600000, 4, 3, channelBlock, 2.6091],
    [1233125376, 104857600000, 1, 2, 512, 2.5843],
    [7083130880, 104857600000, 4, 3, 64, 2.3695],
  ])('N %d, D %d, E%dM%d, B %d: %d nats', (n, d, e, m, block, expected) => {
    expect(Math.abs(loss(n, d, e, m, block) - expected)).toBeLessThanOrEqual(1e-4);
  });

  it('prints the three published critical data sizes (1B parameters, blocks of 128)', () => {
    const trillions = (e: number, m: number, block = 128, n = 1e9) => criticalTokens(values, n, e, m, block) / 1e12;
    expect(trillions(2, 1).toFixed(1)).toBe('0.4');
    expect(trillions(4, 3).toFixed(0)).toBe('27');
    expect(trillions(8, 7).toPrecision(3)).toBe('1.73e+3');
    expect(trillions(2, 1, 32)).toBeCloseTo(0.544, 3);
    expect(trillions(2, 1, 16)).toBeCloseTo(0.676, 3);
    expect(trillions(4, 3, 128, 70e9)).toBeCloseTo(72.4, 1);
  });

  it('turns around exactly there', () => {
    const critical = criticalTokens(values, 1e9, 2, 1, 128);
    for (const factor of [0.9, 1.1])
      expect(loss(1e9, critical * factor, 2, 1, 128)).toBeGreaterThan(loss(1e9, critical, 2, 1, 128));
  });

  it.each([
    [3, 1.06, 'E1M1'],
    [4, 1.58, 'E2M1'],
    [5, 2.1, 'E2M2'],
    [6, 2.62, 'E3M2'],
    [7, 3.14, 'E3M3'],
    [8, 3.66, 'E4M3'],
    [9, 4.17, 'E4M4'],
    [10, 4.69, 'E5M4'],
    [12, 5.73, 'E6M5'],
    [14, 6.77, 'E7M6'],
    [16, 7.81, 'E8M7'],
  ])('the best layout of %d bits', (bits, real, name) => {
    const best = optimalLayout(values, bits);
    expect(`E${best.exponentBits}M${best.mantissaBits}`).toBe(name);
    expect(Math.abs(best.realExponent - real)).toBeLessThanOrEqual(0.0051);
    expect(best.realExponent + best.realMantissa).toBeCloseTo(bits - 1, 12);
  });

  it('rates layouts as published', () => {
    for (const [e, m, quality] of [
      [1, 1, 12.1],
      [0, 7, 42.1],
      [1, 2, 54.7],
      [2, 1, 61.8],
      [2, 3, 755],
      [3, 2, 818],
      [4, 3, 4929],
    ] as const)
      expect(layoutQuality(values, e, m) / quality, `E${e}M${m}`).toBeCloseTo(1, 2);
    expect(layoutFreeGamma(values)).toBeCloseTo(160.697, 3);
  });

  it('has the published cost-optimal bits', () => {
    for (const [d, bits] of [
      [1e10, 3.52],
      [1e11, 4.27],
      [1e12, 5.18],
      [1e13, 6.28],
      [1e14, 7.62],
      [1e15, 9.25],
    ] as const)
      expect(Math.abs(optimalBitsForTokens(values, d, 128) - bits), `${d} tokens`).toBeLessThanOrEqual(0.0051);
    expect(optimalBitsForSize(values, 7e9, 1e21, 128)).toBeCloseTo(4.28, 2);
    expect(optimalBitsForSize(values, 7e9, 1e23, 128)).toBeCloseTo(8.31, 2);
    for (const [flop, bits] of [
      [1e20, 3.949],
      [1e21, 4.19],
      [1e24, 5.005],
      [1e28, 6.344],
      [1e31, 7.578],
      [1e32, 8.04],
    ] as const)
      expect(optimalBits(values, flop, 128).bits, `${flop} FLOP`).toBeCloseTo(bits, 3);
  });

  it('the joint optimum is a minimum of the loss at that cost', () => {
    const flop = 1e24;
    const best = optimalBits(values, flop, 128);
    const penaltyScale = Math.log2(128) / layoutFreeGamma(values);
    const at = (bits: number, d: number) => {
      const n = flop / ((6 / 16) * d * bits);
      const penalty = (d ** values.beta! / n ** values.alpha!) * (penaltyScale / bits ** (values.delta! + values.nu!));
      return values.n! / n ** values.alpha! + values.d! / d ** values.beta! + values.epsilon! + penalty;
    };
    const least = at(best.bits, best.d);
    for (const [p, q] of [
      [1.01, 1],
      [0.99, 1],
      [1, 1.02],
      [1, 0.98],
      [1.01, 1.02],
      [0.99, 0.98],
    ] as const)
      expect(at(best.bits * p, best.d * q)).toBeGreaterThan(least);
  });
});

describe('recovery from noisy runs at the published grid', () => {
  const layouts: (readonly [number, number, number])[] = [
    ...[32, 64, 128, 256, 512, channelBlock].map((block) => [1, 1, block] as const),
    ...(
      [
        [0, 7],
        [1, 2],
        [1, 3],
        [1, 4],
        [1, 5],
        [1, 6],
        [2, 1],
        [2, 3],
        [3, 1],
        [3, 2],
        [4, 1],
        [4, 3],
        [4, 5],
        [5, 1],
        [5, 2],
        [6, 1],
      ] as const
    ).map(([e, m]) => [e, m, channelBlock] as const),
    [8, 7, 1],
  ];
  const grid = [40894464, 84934656, 154140672, 679477248].flatMap((n) =>
    [10485760000, 20971520000, 52428800000, 104857600000].flatMap((d) =>
      layouts.map(([exponentBits, mantissaBits, block]) => ({ n, d, exponentBits, mantissaBits, block })),
    ),
  );

  it('finds the constants within 1.5 times the 90 % bounds for 0.1 % noise', () => {
    const noise = gaussian(11);
    const trials = 10;
    const bounds = { alpha: 0.002, beta: 0.004, epsilon: 0.004, delta: 0.03, nu: 0.022, gamma: 0.1 };
    const within: Record<string, number> = {};
    for (let trial = 0; trial < trials; trial++) {
      const runs = grid.map((p) => ({
        ...p,
        observed: predict(floatingPoint, values, p) * Math.exp(0.001 * noise()),
        label: 'run',
      }));
      const fitted = fitLaw(floatingPoint, runs, { refine: 2 });
      for (const [name, bound] of Object.entries(bounds)) {
        const relative = name === 'epsilon' || name === 'gamma';
        const error = relative ? Math.log(fitted.values[name]! / values[name]!) : fitted.values[name]! - values[name]!;
        if (Math.abs(error) <= 1.5 * bound) within[name] = (within[name] ?? 0) + 1;
      }
      expect(Math.abs(criticalTokens(fitted.values, 1e9, 2, 1, 128) / 0.3925e12 - 1)).toBeLessThan(0.04);
    }
    for (const name of Object.keys(bounds)) expect(within[name], name).toBeGreaterThanOrEqual(9);
  });

  it('a law of total bits alone misses E1M1 by far more than this law', () => {
    const noise = gaussian(5);
    const runs = grid.map((p) => ({
      ...p,
      weightBits: p.exponentBits + p.mantissaBits + 1,
      activationBits: 100,
      cacheBits: 100,
      observed: predict(floatingPoint, values, p) * Math.exp(0.001 * noise()),
      label: 'run',
    }));
    const bias = (residuals: Float64Array) => {
      const chosen = residuals.filter(
        (_, i) => runs[i]!.mantissaBits === 1 && runs[i]!.exponentBits === 1 && runs[i]!.block > 512,
      );
      return Math.abs(chosen.reduce((a, b) => a + b, 0)) / chosen.length;
    };
    const own = fitLaw(floatingPoint, runs, { refine: 2 });
    const bitsOnly = fitLaw(precisionLaw, runs, { refine: 4, frozen: { gammaA: 1, gammaKV: 1 } });
    expect(bias(bitsOnly.residuals)).toBeGreaterThan(0.03);
    expect(bias(own.residuals)).toBeLessThan(0.001);
  });
});
