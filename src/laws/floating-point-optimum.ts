// Consequences of the floating-point law: the best exponent/mantissa split, the critical data size and the
// cost-optimal precision (arXiv 2501.02423 v3, sections on its implications).
//
// Cost is C = k·N·D·P with P = E + M + 1 bits and k = 6/16, so that a 16-bit run costs 6·N·D FLOP. The paper's Eq. (41)
// defines the critical size by D^β; its derivation and its numbers need D^(2β), which is used here. The N and D of the
// joint optimum are properties of this fit (its β is far above its α), not advice on the shape of a run.

type Values = Readonly<Record<string, number>>;

const flopPerBit = 6 / 16;
const logBlock = (block: number) => Math.log2(block);

/** (E+½)^δ·(M+½)^ν: what the penalty is divided by; larger is better. */
export function layoutQuality(values: Values, exponentBits: number, mantissaBits: number): number {
  return (exponentBits + 0.5) ** values.delta! * (mantissaBits + 0.5) ** values.nu!;
}

/**
 * The best split of `bits` (with sign): the real optimum and the best whole bits by exhaustive search.
 *
 * @example optimalLayout(floatingPointPublished.values, 8); // exponentBits 4, mantissaBits 3
 */
export function optimalLayout(values: Values, bits: number) {
  const share = values.delta! / (values.delta! + values.nu!);
  let exponentBits = 0;
  for (let e = 1; e <= bits - 1; e++)
    if (layoutQuality(values, e, bits - 1 - e) > layoutQuality(values, exponentBits, bits - 1 - exponentBits))
      exponentBits = e;
  return {
    exponentBits,
    mantissaBits: bits - 1 - exponentBits,
    realExponent: share * bits - 0.5,
    realMantissa: (1 - share) * bits - 0.5,
  };
}

/** Tokens beyond which more data raises the loss: D = [d·γ·N^α·(E+½)^δ·(M+½)^ν / log2 B]^(1/(2β)). */
export function criticalTokens(
  values: Values,
  n: number,
  exponentBits: number,
  mantissaBits: number,
  block: number,
): number {
  const quality = layoutQuality(values, exponentBits, mantissaBits);
  return ((values.d! * values.gamma! * n ** values.alpha! * quality) / logBlock(block)) ** (1 / (2 * values.beta!));
}

/** γρ = γ·δ^δ·ν^ν/(δ+ν)^(δ+ν): with the best layout the penalty is (D^β/N^α)·log2 B/(γρ·P^(δ+ν)). */
export function layoutFreeGamma(values: Values): number {
  const { gamma, delta, nu } = values;
  return (gamma! * delta! ** delta! * nu! ** nu!) / (delta! + nu!) ** (delta! + nu!);
}

const fixedDataConstant = (v: Values) => (v.delta! + v.nu! - v.alpha!) / (v.n! * v.alpha! * layoutFreeGamma(v));
const fixedSizeConstant = (v: Values) => (v.beta! + v.delta! + v.nu!) / (v.d! * v.beta! * layoutFreeGamma(v));

/** Cost-optimal bits for a given number of tokens; independent of the budget: P^(δ+ν) = γD·D^β·log2 B. */
export function optimalBitsForTokens(values: Values, d: number, block: number): number {
  return (fixedDataConstant(values) * d ** values.beta! * logBlock(block)) ** (1 / (values.delta! + values.nu!));
}

/** Cost-optimal bits for a given size and budget in FLOP: P^(δ+ν+2β) = γN·(C/k)^(2β)·N^−(α+2β)·log2 B. */
export function optimalBitsForSize(values: Values, n: number, flop: number, block: number): number {
  const { alpha, beta, delta, nu } = values;
  const right =
    fixedSizeConstant(values) * (flop / flopPerBit) ** (2 * beta!) * n ** -(alpha! + 2 * beta!) * logBlock(block);
  return right ** (1 / (delta! + nu! + 2 * beta!));
}

/**
 * Cost-optimal bits, size and tokens for a budget in FLOP:
 * P^((δ+ν)(α+β)/β + α) = λ·(γD·log2 B)^((α+β)/β)·(C/k)^α, λ = (dβ/nα)·(δ+ν−α)/(δ+ν+β).
 *
 * @example optimalBits(floatingPointPublished.values, 1e24, 128).bits; // ≈ 5.005
 */
export function optimalBits(values: Values, flop: number, block: number): { bits: number; n: number; d: number } {
  const { alpha, beta, delta, nu } = values;
  const sum = delta! + nu!;
  const ratio = (alpha! + beta!) / beta!;
  const lambda = ((values.d! * beta!) / (values.n! * alpha!)) * ((sum - alpha!) / (sum + beta!));
  const right = lambda * (fixedDataConstant(values) * logBlock(block)) ** ratio * (flop / flopPerBit) ** alpha!;
  const bits = right ** (1 / (sum * ratio + alpha!));
  const d = (bits ** sum / (fixedDataConstant(values) * logBlock(block))) ** (1 / beta!);
  return { bits, d, n: flop / (flopPerBit * d * bits) };
}
