// What follows from the published coefficients of the QAT law, beside what the paper states and an independent
// evaluation of the same formulae.

import { chinchilla } from '../../src/laws/chinchilla.ts';
import { predict } from '../../src/laws/law.ts';
import {
  type QatOperands,
  qatBase,
  qatCriticalTokens,
  qatEfficiency,
  qatGap,
  qatPublished,
} from '../../src/laws/qat.ts';
import { type Claim, factClaim, numberClaim } from '../../src/report/reproduction.ts';

const gap = (operands: QatOperands, n: number, d: number, group: number) =>
  predict(qatGap, qatPublished[operands].values, { n, d, group });

/** N, D, G; loss in BF16; gaps of W4A4, W4A16, W16A4 and W4A4 with an 8-bit FC2 input; efficiency of W4A4. */
const reference = [
  [74e6, 1e10, 32, 3.49, 0.0586, 0.0272, 0.0389, 0.0471, 0.828],
  [74e6, 1e10, 256, 3.49, 0.0844, 0.0321, 0.0616, 0.0553, 0.764],
  [595e6, 1e11, 32, 2.7407, 0.0441, 0.0186, 0.0287, 0.034, 0.768],
  [595e6, 1e11, 128, 2.7407, 0.0573, 0.021, 0.04, 0.0381, 0.712],
  [595e6, 1e11, 256, 2.7407, 0.0635, 0.022, 0.0456, 0.0399, 0.688],
  [973e6, 2e11, 128, 2.614, 0.0542, 0.0197, 0.0374, 0.0358, 0.69],
  [7e9, 2e12, 128, 2.2939, 0.0418, 0.014, 0.0282, 0.0265, 0.602],
] as const;

/** One claim a column of the table, with the largest distance. */
export function tableClaims(): Claim[] {
  const columns: [string, number, (row: (typeof reference)[number]) => number, number][] = [
    ['loss in BF16', 3, ([n, d]) => predict(chinchilla, qatBase.values, { n, d }), 5.1e-5],
    ...(['w4a4', 'w4a16', 'w16a4', 'w4a4-fc2a8'] as const).map(
      (operands, i): [string, number, (row: (typeof reference)[number]) => number, number] => [
        `gap of ${operands}`,
        4 + i,
        ([n, d, group]) => gap(operands, n, d, group),
        5.1e-5,
      ],
    ),
    ['efficiency of W4A4', 8, ([n, d, g]) => qatEfficiency(qatBase.values, gap('w4a4', n, d, g), n), 2e-3],
  ];
  return columns.map(([name, column, evaluate, tolerance]) => {
    const distances = reference.map((row) => Math.abs(evaluate(row) - row[column]));
    const worst = Math.max(...distances);
    return factClaim(
      `${name} at 7 reference points`,
      `within ${tolerance}`,
      `largest distance ${worst.toExponential(1)}`,
      worst <= tolerance,
      'independent evaluation of the coefficients, 4 digits (efficiency: 3)',
    );
  });
}

export function turningClaims(): Claim[] {
  const critical = (operands: QatOperands) =>
    qatCriticalTokens(qatBase.values, qatPublished[operands].values, 595e6, 128) / 1e14;
  const print = (v: number) => `${v.toFixed(2)}e14`;
  const options = { tolerance: 0.05, print };
  const ratio = (group: number, perParameter: number) =>
    gap('w16a4', 595e6, perParameter * 595e6, group) / gap('w4a16', 595e6, perParameter * 595e6, group);
  const near = { tolerance: 0.0051, print: (v: number) => v.toFixed(2) };
  return [
    numberClaim('tokens beyond which W4A4 gets worse with data, 595M, G = 128', 2.8, critical('w4a4'), options),
    numberClaim('the same for W4A16', 1.1, critical('w4a16'), options),
    numberClaim('activation over weight gap, D/N = 100, G = 32', 1.65, ratio(32, 100), near),
    numberClaim('activation over weight gap, D/N = 1000, G = 32', 1.23, ratio(32, 1000), near),
    numberClaim('activation over weight gap, D/N = 1000, G = 256', 1.65, ratio(256, 1000), near),
  ];
}

/** The paper's measured trends, which its fitted law must show. */
export function orderingClaims(): Claim[] {
  const all: QatOperands[] = ['w4a4', 'w4a16', 'w16a4'];
  const of = (name: string) => all.map((operands) => qatPublished[operands].values[name]);
  const [n4, nW, nA] = of('gammaN');
  const [d4, dW, dA] = of('gammaD');
  const [g4, gW, gA] = of('gammaG');
  const sum = (g: number) => gap('w4a16', 595e6, 1e11, g) + gap('w16a4', 595e6, 1e11, g);
  const slope = gap('w4a4', 595e6, 1e11, 128) / sum(128);
  const fix = (g: number) => 1 - gap('w4a4-fc2a8', 595e6, 1e11, g) / gap('w4a4', 595e6, 1e11, g);
  const percent = (v: number) => `${(100 * v).toFixed(1)} %`;
  return [
    factClaim(
      'γN and γD: weights > both > activations',
      'so',
      `${nW}, ${n4}, ${nA}; ${dW}, ${d4}, ${dA}`,
      nW > n4 && n4 > nA && dW > d4 && d4 > dA,
    ),
    factClaim('γG: activations > both > weights', 'so', `${gA}, ${g4}, ${gW}`, gA > g4 && g4 > gW),
    factClaim(
      'the W4A4 gap is below the sum of its parts (measured slope 0.906)',
      'ratio below 1',
      slope.toFixed(3),
      slope < 1,
      '595M, 100B, G = 128; the laws were fitted apart',
    ),
    factClaim(
      'an 8-bit FC2 input helps more at G = 256 than at 32 (measured 42.9 % and 20.5 %)',
      'so',
      `${percent(fix(256))} and ${percent(fix(32))}`,
      fix(256) > fix(32),
      '595M, 100B',
    ),
  ];
}
