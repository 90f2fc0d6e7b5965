// The one table of element parameters: everything that distinguishes an element type, as data.
//
// Sources: OCP Microscaling Formats (MX) v1.0 (E2M1, E2M3, E3M2, E4M3, E5M2, INT8, E8M0); ml_dtypes for the IEEE-like
// and fnuz types; bias 0 of E1M2 and bias 3 of E3M0 are conventions, as no specification has them.

import type { CodebookElement, ElementName, IntElement, MinifloatElement } from './format.ts';

/** Special codes. finite: none. fn: all-ones is NaN. ieee: infinities and NaNs. fnuz: only 0x80, NaN; no −0. */
export type Specials = 'finite' | 'fn' | 'ieee' | 'fnuz';

export interface MinifloatParameters {
  readonly bits: number;
  readonly exponentBits: number;
  readonly mantissaBits: number;
  readonly bias: number;
  readonly specials: Specials;
  readonly signed: boolean;
  readonly max: number;
}

const minifloat = (
  exponentBits: number,
  mantissaBits: number,
  bias: number,
  specials: Specials,
  max: number,
  signed = true,
): MinifloatParameters => ({
  bits: exponentBits + mantissaBits + (signed ? 1 : 0),
  exponentBits,
  mantissaBits,
  bias,
  specials,
  signed,
  max,
});

export const minifloats: Readonly<Record<MinifloatElement, MinifloatParameters>> = {
  e2m1: minifloat(2, 1, 1, 'finite', 6),
  e1m2: minifloat(1, 2, 0, 'finite', 3.5),
  e3m0: minifloat(3, 0, 3, 'finite', 16),
  e2m3: minifloat(2, 3, 1, 'finite', 7.5),
  e3m2: minifloat(3, 2, 3, 'finite', 28),
  e3m4: minifloat(3, 4, 3, 'ieee', 15.5),
  e4m3: minifloat(4, 3, 7, 'fn', 448),
  e4m3ieee: minifloat(4, 3, 7, 'ieee', 240),
  e4m3fnuz: minifloat(4, 3, 8, 'fnuz', 240),
  e4m3b11fnuz: minifloat(4, 3, 11, 'fnuz', 30),
  e5m2: minifloat(5, 2, 15, 'ieee', 57344),
  e5m2fnuz: minifloat(5, 2, 16, 'fnuz', 57344),
};

/** Unsigned minifloats that serve as scales. E6M2 (HiF4) has no subnormals: scale-format.ts. */
export const scaleMinifloats = {
  e4m3: minifloats.e4m3,
  ue5m3: minifloat(5, 3, 15, 'fn', 114688, false),
} as const;

export const intBits: Readonly<Record<IntElement, number>> = {
  int2: 2,
  int3: 3,
  int4: 4,
  int5: 5,
  int6: 6,
  int7: 7,
  int8: 8,
};

export const codebookBits: Readonly<Record<CodebookElement, number>> = {
  nf4: 4,
  ternary: 2,
  'log2-3': 3,
  'log2-4': 4,
  'log2-8': 8,
};

export const isMinifloat = (e: ElementName): e is MinifloatElement => e in minifloats;
export const isInt = (e: ElementName): e is IntElement => e in intBits;

/** Bits of one element code. */
export function elementBits(e: ElementName): number {
  if (isMinifloat(e)) return minifloats[e].bits;
  return isInt(e) ? intBits[e] : codebookBits[e];
}

/** Exponent of the largest power of two that the element holds: emax of the MX scale rules. Integers: 0 (fixed point). */
export function elementEmax(e: ElementName): number {
  return isMinifloat(e) ? Math.floor(Math.log2(minifloats[e].max)) : 0;
}

/** Mantissa bits that the `even` scale rule rounds to. */
export function elementMantissaBits(e: ElementName): number {
  if (isMinifloat(e)) return minifloats[e].mantissaBits;
  return isInt(e) ? intBits[e] - 2 : 0;
}

export const elementNames = [
  ...Object.keys(intBits),
  ...Object.keys(minifloats),
  ...Object.keys(codebookBits),
] as ElementName[];
