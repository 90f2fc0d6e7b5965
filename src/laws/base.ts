// The base that most laws share: L = (A/(N·eN)^α + B/(D·eD)^β)^γ + E.
//
// γ = 1 is Chinchilla's form (Hoffmann et al., arXiv 2203.15556); a free outer exponent γ is the form of Busbridge et
// al. (arXiv 2502.08606) and of Quartet (arXiv 2505.14669). eN and eD are the efficiencies of a number format: a
// forward pass in low precision acts like a smaller model, a backward pass in low precision like fewer tokens.

import type { Law, Parameter, Point } from './law.ts';

const baseParameters: readonly Parameter[] = [
  {
    name: 'A',
    meaning: 'amplitude of the size term',
    scale: 'log',
    lower: 1e-3,
    upper: 1e15,
    starts: [1, Math.exp(5), Math.exp(10), Math.exp(15)],
  },
  {
    name: 'alpha',
    meaning: 'exponent of the size',
    scale: 'linear',
    lower: 0,
    upper: 3,
    starts: [0.2, 0.5, 1],
    axis: 'n',
  },
  {
    name: 'B',
    meaning: 'amplitude of the data term',
    scale: 'log',
    lower: 1e-3,
    upper: 1e15,
    starts: [1, Math.exp(5), Math.exp(10), Math.exp(15)],
  },
  {
    name: 'beta',
    meaning: 'exponent of the tokens',
    scale: 'linear',
    lower: 0,
    upper: 3,
    starts: [0.2, 0.5, 1],
    axis: 'd',
  },
  {
    name: 'E',
    meaning: 'loss that no size and no data removes, nats',
    scale: 'log',
    lower: 1e-6,
    upper: 20,
    starts: [1, Math.exp(0.5)],
  },
];
const outer: Parameter = {
  name: 'gamma',
  meaning: 'outer exponent',
  scale: 'linear',
  lower: 0.01,
  upper: 3,
  starts: [0.25, 0.5, 1],
};
const efficiency = (name: string, meaning: string): Parameter => ({
  name,
  meaning,
  scale: 'log',
  lower: 1e-6,
  upper: 10,
  starts: [0.3, 0.9],
});

/** Names that mean that nothing was quantized. */
export const isUnquantized = (scheme: string | undefined) =>
  scheme === undefined || /^(bf16|fp32|f32|fp16|none|noquantizer)$/i.test(scheme);

export interface BaseOptions {
  id: string;
  formula: string;
  outerExponent: boolean;
  /** Forward schemes that get an efficiency on N, and backward schemes that get one on D. */
  forward?: readonly string[];
  backward?: readonly string[];
}

/**
 * A law of the base form; parameters A, alpha, B, beta, E, then gamma, `effN(scheme)` and `effD(scheme)`. When schemes
 * are named, a point with any other scheme than these and BF16 has no prediction (NaN).
 */
export function baseLaw({ id, formula, outerExponent, forward = [], backward = [] }: BaseOptions): Law {
  const first = outerExponent ? 6 : 5;
  const parameters = [
    ...baseParameters,
    ...(outerExponent ? [outer] : []),
    ...forward.map((s) => efficiency(`effN(${s})`, `parameter efficiency of the forward scheme ${s}`)),
    ...backward.map((s) => efficiency(`effD(${s})`, `data efficiency of the backward scheme ${s}`)),
  ];
  const forwardIndex = new Map(forward.map((s, i) => [s, first + i]));
  const backwardIndex = new Map(backward.map((s, i) => [s, first + forward.length + i]));
  const place = (map: Map<string, number>, scheme: string | undefined) => {
    if (isUnquantized(scheme)) return -1;
    const at = map.get(scheme!);
    return at === undefined ? Number.NaN : at;
  };

  function evaluate(v: ArrayLike<number>, point: Point, gradient?: Float64Array): number {
    const [A, alpha, B, beta, E] = [v[0]!, v[1]!, v[2]!, v[3]!, v[4]!];
    const gamma = outerExponent ? v[5]! : 1;
    const fi = forward.length ? place(forwardIndex, point.forward) : -1;
    const bi = backward.length ? place(backwardIndex, point.backward) : -1;
    if (Number.isNaN(fi) || Number.isNaN(bi)) return Number.NaN;
    const lnN = Math.log(point.n * (fi < 0 ? 1 : v[fi]!));
    const lnD = Math.log(point.d * (bi < 0 ? 1 : v[bi]!));
    const size = A * Math.exp(-alpha * lnN);
    const data = B * Math.exp(-beta * lnD);
    const sum = size + data;
    const power = outerExponent ? sum ** gamma : sum;
    if (gradient) {
      const slope = outerExponent ? (gamma * power) / sum : 1;
      gradient.fill(0);
      gradient[0] = (slope * size) / A;
      gradient[1] = -slope * size * lnN;
      gradient[2] = (slope * data) / B;
      gradient[3] = -slope * data * lnD;
      gradient[4] = 1;
      if (outerExponent) gradient[5] = power * Math.log(sum);
      if (fi >= 0) gradient[fi] = (-slope * size * alpha) / v[fi]!;
      if (bi >= 0) gradient[bi] = (-slope * data * beta) / v[bi]!;
    }
    return power + E;
  }

  return { id, formula, predicts: 'loss', parameters, needs: [], evaluate };
}

/**
 * The compute-optimal size and tokens for C = 6·N·D FLOP: N = G·(C/6)^a, D = (C/6)^b/G with a = β/(α+β), b = α/(α+β),
 * G = (αA/(βB))^(1/(α+β)). The outer exponent is monotone, so the same optimum holds for every γ.
 *
 * @example computeOptimal(chinchillaRefit.values, 5.76e23).n; // ≈ 7e10
 */
export function computeOptimal(
  values: Readonly<Record<string, number>>,
  flop: number,
): { n: number; d: number; a: number } {
  const [A, alpha, B, beta] = [values.A!, values.alpha!, values.B!, values.beta!];
  const a = beta / (alpha + beta);
  const G = ((alpha * A) / (beta * B)) ** (1 / (alpha + beta));
  return { n: G * (flop / 6) ** a, d: (flop / 6) ** (1 - a) / G, a };
}
