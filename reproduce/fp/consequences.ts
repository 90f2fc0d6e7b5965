// What follows from the constants of the floating-point law, beside what the paper prints and an independent evaluation.

import { channelBlock, floatingPoint, floatingPointPublished } from '../../src/laws/floating-point.ts';
import {
  criticalTokens,
  layoutFreeGamma,
  optimalBits,
  optimalBitsForSize,
  optimalBitsForTokens,
  optimalLayout,
} from '../../src/laws/floating-point-optimum.ts';
import { predict } from '../../src/laws/law.ts';
import { type Claim, factClaim, numberClaim, printedClaim } from '../../src/report/reproduction.ts';

const { values } = floatingPointPublished;
const loss = (n: number, d: number, exponentBits: number, mantissaBits: number, block: number) =>
  predict(floatingPoint, values, { n, d, exponentBits, mantissaBits, block });
const tera = (e: number, m: number, block = 128, n = 1e9) => criticalTokens(values, n, e, m, block) / 1e12;

export function criticalClaims(): Claim[] {
  const near = (claim: string, expected: number, found: number) =>
    numberClaim(claim, expected, found, { tolerance: 0.005 * expected, print: (v) => `${v.toPrecision(3)} T` });
  return [
    printedClaim('critical tokens, 1B, B = 128, E2M1', '0.4 T', tera(2, 1), (v) => `${v.toFixed(1)} T`),
    printedClaim('critical tokens, 1B, B = 128, E4M3', '27 T', tera(4, 3), (v) => `${v.toFixed(0)} T`),
    printedClaim('critical tokens, 1B, B = 128, BF16', '1730 T', tera(8, 7), (v) => `${Number(v.toPrecision(3))} T`),
    near('critical tokens, 1B, B = 32, E2M1', 0.544, tera(2, 1, 32)),
    near('critical tokens, 1B, B = 16, E2M1', 0.676, tera(2, 1, 16)),
    near('critical tokens, 70B, B = 128, E4M3', 72.4, tera(4, 3, 128, 70e9)),
  ];
}

export function layoutClaims(): Claim[] {
  const published = ['E1M1', 'E2M1', 'E2M2', 'E3M2', 'E3M3', 'E4M3', 'E4M4', 'E5M4'];
  const found = published.map((_, i) => {
    const best = optimalLayout(values, i + 3);
    return `E${best.exponentBits}M${best.mantissaBits}`;
  });
  const sixteen = optimalLayout(values, 16);
  const rounded = [3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16].every((bits) => {
    const best = optimalLayout(values, bits);
    return Math.abs(best.exponentBits - best.realExponent) <= 0.5;
  });
  return [
    factClaim('best layouts of 3 to 10 bits', published.join(' '), found.join(' '), found.join() === published.join()),
    factClaim(
      'best layout of 16 bits',
      'E8M7',
      `E${sixteen.exponentBits}M${sixteen.mantissaBits}`,
      sixteen.exponentBits === 8,
    ),
    factClaim(
      'exhaustive search and the rounded closed form agree, 3 to 16 bits',
      'so',
      rounded ? 'so' : 'not so',
      rounded,
    ),
    numberClaim('γρ of the best layouts', 160.697, layoutFreeGamma(values), { tolerance: 5e-4 }),
  ];
}

export function bitsClaims(): Claim[] {
  const print = (v: number) => v.toFixed(3);
  const byTokens = [
    [1e10, 3.52],
    [1e11, 4.27],
    [1e12, 5.18],
    [1e13, 6.28],
    [1e14, 7.62],
    [1e15, 9.25],
  ];
  const byBudget = [
    [1e20, 3.949],
    [1e21, 4.19],
    [1e22, 4.446],
    [1e24, 5.005],
    [1e26, 5.635],
    [1e28, 6.344],
    [1e30, 7.142],
    [1e31, 7.578],
    [1e32, 8.04],
  ];
  const [low, high] = [optimalBits(values, 1e21, 128).bits, optimalBits(values, 1e31, 128).bits];
  const numeric = numericOptimum(1e24, 128);
  return [
    ...byTokens.map(([d, bits]) =>
      numberClaim(
        `cost-optimal bits for ${d.toExponential(0)} tokens, B = 128`,
        bits,
        optimalBitsForTokens(values, d, 128),
        { tolerance: 0.0051, print: (v) => v.toFixed(2) },
      ),
    ),
    numberClaim('cost-optimal bits for 7B and 1e21 FLOP', 4.28, optimalBitsForSize(values, 7e9, 1e21, 128), {
      tolerance: 0.0051,
      print: (v) => v.toFixed(2),
    }),
    numberClaim('cost-optimal bits for 7B and 1e23 FLOP', 8.31, optimalBitsForSize(values, 7e9, 1e23, 128), {
      tolerance: 0.0051,
      print: (v) => v.toFixed(2),
    }),
    ...byBudget.map(([flop, bits]) =>
      numberClaim(`cost-optimal bits for ${flop.toExponential(0)} FLOP`, bits, optimalBits(values, flop, 128).bits, {
        tolerance: 6e-4,
        print,
      }),
    ),
    factClaim(
      '4 to 8 bits are cost-optimal from 1e21 to 1e31 FLOP',
      '4 to 8',
      `${low.toFixed(2)} to ${high.toFixed(2)}`,
      low >= 4 && high <= 8,
    ),
    numberClaim(
      'closed form and a numeric minimum over N, D and P, 1e24 FLOP',
      numeric,
      optimalBits(values, 1e24, 128).bits,
      { tolerance: 1e-3, print },
    ),
  ];
}

/** The bits of the least loss at a cost, by nested golden-section searches over ln P and ln D. */
function numericOptimum(flop: number, block: number): number {
  const sum = values.delta + values.nu;
  const factor = Math.log2(block) / layoutFreeGamma(values);
  const at = (bits: number, d: number) => {
    const n = flop / ((6 / 16) * d * bits);
    const penalty = (d ** values.beta / n ** values.alpha) * (factor / bits ** sum);
    return values.n / n ** values.alpha + values.d / d ** values.beta + penalty;
  };
  const best = (bits: number) => {
    const d = Math.exp(golden((x) => at(bits, Math.exp(x)), Math.log(1e9), Math.log(1e16)));
    return at(bits, d);
  };
  return Math.exp(golden((x) => best(Math.exp(x)), Math.log(1.5), Math.log(16)));
}

/** The place of the minimum of a function with one. */
function golden(f: (x: number) => number, from: number, to: number): number {
  const ratio = (Math.sqrt(5) - 1) / 2;
  let [a, b] = [from, to];
  for (let i = 0; i < 80; i++) {
    const [c, d] = [b - ratio * (b - a), a + ratio * (b - a)];
    if (f(c) < f(d)) b = d;
    else a = c;
  }
  return (a + b) / 2;
}

export function lossClaims(): Claim[] {
  const rows = [
    [40894464, 10485760000, 8, 7, channelBlock, 3.4607],
    [40894464, 10485760000, 1, 1, channelBlock, 3.6859],
    [40894464, 10485760000, 2, 1, channelBlock, 3.5048],
    [679477248, 104857600000, 1, 1, 32, 2.7526],
    [679477248, 104857600000, 2, 1, 32, 2.6364],
    [679477248, 104857600000, 4, 3, channelBlock, 2.6091],
    [1233125376, 104857600000, 1, 2, 512, 2.5843],
    [7083130880, 104857600000, 4, 3, 64, 2.3695],
  ] as const;
  const worst = Math.max(...rows.map(([n, d, e, m, block, expected]) => Math.abs(loss(n, d, e, m, block) - expected)));
  return [
    factClaim(
      'loss at 8 reference points',
      'within 1e-4',
      `largest distance ${worst.toExponential(1)}`,
      worst <= 1e-4,
      'independent evaluation of the constants',
    ),
  ];
}

export function orderingClaims(): Claim[] {
  const sizes = [41e6, 1e9, 7e9, 70e9];
  const ordered = sizes.every((n) => {
    const list = [tera(2, 1, 128, n), tera(3, 2, 128, n), tera(4, 3, 128, n), tera(8, 7, 128, n)];
    return list.every((v, i) => i === 0 || v > list[i - 1]);
  });
  const finer = sizes.every((n) => tera(2, 1, 16, n) > tera(2, 1, 32, n) && tera(2, 1, 32, n) > tera(2, 1, 128, n));
  return [
    factClaim('critical size: E2M1 < E3M2 < E4M3 < BF16, at every size', 'so', ordered ? 'so' : 'not so', ordered),
    factClaim('smaller blocks raise the critical size', 'so', finer ? 'so' : 'not so', finer),
  ];
}
