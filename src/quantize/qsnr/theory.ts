// Which of an integer and a float format of equal bits rounds a block better: closed forms of the QSNR by the crest
// factor of the block.
//
// Problem: integers have a fixed step, so their error grows with the largest value of the block; floats have a fixed
// relative error until values fall below their smallest normal number. One number decides: the crest factor
// κ = max|x| / RMS(x). Entries are taken as independent Gaussians of variance σ², κ = max|x|/σ.
//
//   integers      noise/signal = (ρκ/Q)²/12, times (g−1)/g where the scale keeps the block maximum exact
//   floats        noise/signal = α·w + β·(ρκ)²·p
//     α = 1/(24·2^(2M))           relative error of a value in its binade
//     β = 2^(2(1−bias−M))/(12·Q²) step of the subnormals
//     t = ρκ·2^(1−bias)/Q         border of the subnormals in units of σ
//     p = erf(t/√2)               share of values below it
//     w = 1 − p + t·√(2/π)·e^(−t²/2), less κ²/g where the scale keeps the block maximum exact
//   QSNR = −10·log10(noise/signal)
//
// Q is the largest code, g the block size, ρ ∈ [1, 2) how much larger the stored scale is than max|x|/Q. Power-of-two
// scales round up, so ρ is spread over [1, 2) and the published figures take 1.5 for it; 8-bit float scales keep the
// maximum nearly exact, and the published figures take 1.05.
// Source: arXiv 2510.25602, theorems 1 and 2. Two constants for integers: `exact` uses Q = 2^(b−1) − 1, `printed` the
// paper's 4.78 + 6.02·b dB at ρκ = 1, which takes Q for 2^(b−1); at 4 bits that is 1.16 dB too much.
// It does not do: what rounding a scale down clips, correlations within a block, error that is not uniform in a binade.

import { userError } from '../../errors.ts';

/** The numbers of an element type that the closed forms need. */
export type Element =
  | { kind: 'int'; bits: number }
  | { kind: 'float'; mantissaBits: number; bias: number; max: number };

export interface ScaleModel {
  /** ρ: the stored scale over max|x|/Q. */
  overhead: number;
  /** g where the block maximum carries (nearly) no error; absent for power-of-two scales. */
  exactMaximumOf?: number;
}

export interface TheoryOptions {
  scale: ScaleModel;
  /** Constant of the integers; `exact` when absent. */
  constant?: 'exact' | 'printed';
}

/**
 * The error function, to about 1e-15: erf x = 2/√π · e^(−x²) · Σ 2ⁿx^(2n+1)/(2n+1)!!, whose terms are all positive.
 *
 * @example erf(1) // 0.8427007929497149
 */
export function erf(x: number): number {
  if (Math.abs(x) > 6) return Math.sign(x);
  let term = x;
  let sum = x;
  for (let n = 1; Math.abs(term) > 1e-18 * Math.abs(sum); n++) {
    term *= (2 * x * x) / (2 * n + 1);
    sum += term;
  }
  return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
}

function integerNoise(bits: number, crest: number, { scale, constant = 'exact' }: TheoryOptions): number {
  const unit = constant === 'exact' ? 1 / (12 * (2 ** (bits - 1) - 1) ** 2) : 10 ** (-(4.78 + 6.02 * bits) / 10);
  const g = scale.exactMaximumOf;
  return unit * (scale.overhead * crest) ** 2 * (g === undefined ? 1 : (g - 1) / g);
}

function floatNoise(element: Extract<Element, { kind: 'float' }>, crest: number, { scale }: TheoryOptions): number {
  const { mantissaBits, bias, max } = element;
  const reach = scale.overhead * crest;
  const border = (reach * 2 ** (1 - bias)) / max;
  const below = erf(border / Math.SQRT2);
  const above = 1 - below + border * Math.sqrt(2 / Math.PI) * Math.exp((-border * border) / 2);
  const exact = scale.exactMaximumOf === undefined ? 0 : crest ** 2 / scale.exactMaximumOf;
  const relative = 1 / (24 * 2 ** (2 * mantissaBits));
  const step = 2 ** (2 * (1 - bias - mantissaBits)) / (12 * max * max);
  return relative * Math.max(above - exact, 0) + step * reach ** 2 * below;
}

/**
 * The predicted QSNR in dB of a block with a crest factor.
 *
 * @example predictedQsnr({ kind: 'int', bits: 8 }, 2.96, { scale: { overhead: 1.5 }, constant: 'printed' }) // 39.99
 * @throws user error for a crest factor below 1, which no block has
 */
export function predictedQsnr(element: Element, crest: number, options: TheoryOptions): number {
  if (!(crest >= 1 && Number.isFinite(crest)))
    throw userError({
      code: 'crest-factor',
      op: 'formats compare',
      problem: 'not a crest factor',
      got: crest,
      expected: 'max|x| / RMS(x), which is 1 or more',
    });
  const noise =
    element.kind === 'int' ? integerNoise(element.bits, crest, options) : floatNoise(element, crest, options);
  return -10 * Math.log10(noise);
}

export interface Crossover {
  /** Below it the integers win. */
  crest: number;
  /** QSNR of both there, dB. */
  qsnr: number;
}

/**
 * The crest factor at which an integer and a float format have the same predicted QSNR; undefined when there is none
 * between 1 and 64.
 */
export function crossover(int: Element, float: Element, options: TheoryOptions): Crossover | undefined {
  const lead = (crest: number) => predictedQsnr(int, crest, options) - predictedQsnr(float, crest, options);
  let [low, high] = [1, 64];
  if (!(lead(low) > 0 && lead(high) < 0)) return undefined;
  for (let i = 0; i < 100; i++) {
    const middle = (low + high) / 2;
    if (lead(middle) > 0) low = middle;
    else high = middle;
  }
  return { crest: low, qsnr: predictedQsnr(int, low, options) };
}
