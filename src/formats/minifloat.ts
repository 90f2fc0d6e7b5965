// One encoder and one decoder for every small floating-point format.
//
// Decode: exponent field e, mantissa m: e = 0 gives m · 2^(1−B−M), otherwise (2^M + m) · 2^(e−B−M).
// Encode: take the magnitude code below |x|, compare |x| with the midpoint to the next code, apply the tie rule. As
// codes grow with the magnitude there is no case for subnormals or carries, and overflow is tested on the rounded
// value, as if the next binade existed: E4M3 464 → 448 (even), E5M2 61440 → infinity. Source: OCP OFP8 and MX v1.0.
//
// Encoding takes a step d: it finds the element nearest to x / d by comparing |x| with fl(d × midpoint), rounded to
// float32. Multiplication is correctly rounded everywhere, division is not (WGSL), so all backends decide alike; with
// d = 1 or a narrow scale (16 bits or less) the product is exact and so is the decision.

import { exponentF64, powerOfTwo } from './bits.ts';
import type { Rounding } from './format.ts';
import type { MinifloatParameters } from './table.ts';

/** What a value beyond the largest element, or NaN, becomes. nonsaturating is ml_dtypes' rule. */
export type OverflowPolicy = 'saturating' | 'nonsaturating';

const signBit = (p: MinifloatParameters) => (p.signed ? 1 << (p.bits - 1) : 0);

/** The value that magnitude code `code` has, or would have were the exponent field wider. */
export function magnitudeValue(p: MinifloatParameters, code: number): number {
  const M = p.mantissaBits;
  const e = code >>> M;
  const m = code & ((1 << M) - 1);
  return e === 0 ? m * powerOfTwo(1 - p.bias - M) : ((1 << M) + m) * powerOfTwo(e - p.bias - M);
}

/** Magnitude code of the largest finite value. */
export function maxMagnitudeCode(p: MinifloatParameters): number {
  let code = (1 << (p.exponentBits + p.mantissaBits)) - 1;
  while (magnitudeValue(p, code) > p.max) code--;
  return code;
}

/** Value of any code; NaN and infinities as the format has them. */
export function decodeMinifloat(p: MinifloatParameters, code: number): number {
  const sign = signBit(p);
  const negative = sign !== 0 && (code & sign) !== 0;
  const magnitude = sign === 0 ? code : code & (sign - 1);
  if (p.specials === 'fnuz' && code === sign) return Number.NaN;
  const value = magnitudeValue(p, magnitude);
  if (value > p.max) {
    if (p.specials !== 'ieee' || (magnitude & ((1 << p.mantissaBits) - 1)) !== 0) return Number.NaN;
    return negative ? -Infinity : Infinity;
  }
  return negative ? -value : value;
}

/** Values of all 2^bits codes. */
export function minifloatValues(p: MinifloatParameters): Float32Array {
  return Float32Array.from({ length: 1 << p.bits }, (_, code) => decodeMinifloat(p, code));
}

/** Magnitude code of the largest element ≤ t, for t ≥ 0; may lie beyond the largest finite code. */
export function floorMagnitude(p: MinifloatParameters, t: number): number {
  const e = Math.max(exponentF64(t), 1 - p.bias);
  const n = Math.floor(t * powerOfTwo(p.mantissaBits - e));
  return (e + p.bias - 1) * (1 << p.mantissaBits) + n;
}

/**
 * Whether |x| = `a`, which lies between neighbours `low` and `high` times `step`, rounds to the upper one.
 *
 * @param lowIsEven parity of the lower neighbour's code
 * @param negative sign of x, for the signed half-up rule
 * @param u uniform in [0, 1): the stochastic threshold is fl(step × fl(low + u · (high − low)))
 */
export function roundsUp(
  a: number,
  step: number,
  low: number,
  high: number,
  lowIsEven: boolean,
  negative: boolean,
  rounding: Rounding,
  u: number,
): boolean {
  if (rounding === 'stochastic') return a > Math.fround(step * Math.fround(low + u * (high - low)));
  if (rounding === 'floor') return a >= Math.fround(step * high);
  const threshold = Math.fround(step * ((low + high) / 2));
  if (a !== threshold) return a > threshold;
  switch (rounding) {
    case 'nearest-even':
      return !lowIsEven;
    case 'half-away':
      return true;
    case 'half-up':
      return !negative;
    default:
      return false;
  }
}

/** Code of the special value that replaces an overflow (`nan` false) or NaN, under the nonsaturating policy. */
function specialCode(p: MinifloatParameters, negative: boolean, nan: boolean): number {
  const sign = negative ? signBit(p) : 0;
  const allOnes = (1 << (p.exponentBits + p.mantissaBits)) - 1;
  switch (p.specials) {
    case 'fn':
      return sign | allOnes;
    case 'fnuz':
      return signBit(p);
    case 'ieee': {
      const infinity = allOnes - ((1 << p.mantissaBits) - 1);
      return sign | (nan ? infinity | (1 << (p.mantissaBits - 1)) : infinity);
    }
    case 'finite':
      // no NaN exists: ml_dtypes writes −0 for NaN and +0 for −NaN
      if (nan) return negative ? 0 : signBit(p);
      return sign | maxMagnitudeCode(p);
  }
}

/**
 * Code of a float32 value. Numbers are rounded to float32 first, as ml_dtypes arrays and torch do.
 *
 * @param policy saturating: overflow and infinity become ±max; NaN stays NaN where the format has one, and +max (the
 *   ONNX rule) where not. nonsaturating: as ml_dtypes
 * @param negativeNaN sign of a NaN input, which a JS number does not show
 * @example encodeMinifloat(minifloats.e2m1, 2.5) // 0x4, the value 2: a tie goes to the even code
 */
export function encodeMinifloat(
  p: MinifloatParameters,
  value: number,
  policy: OverflowPolicy = 'saturating',
  rounding: Rounding = 'nearest-even',
  u = 0,
  negativeNaN = false,
): number {
  const x = Math.fround(value);
  if (Number.isNaN(x)) {
    if (policy === 'saturating' && p.specials === 'finite') return maxMagnitudeCode(p);
    return specialCode(p, negativeNaN, true);
  }
  const negative = x < 0 || Object.is(x, -0);
  const a = Math.abs(x);
  const max = maxMagnitudeCode(p);
  let magnitude: number;
  if (a === Infinity) {
    magnitude = max + 1;
  } else {
    magnitude = floorMagnitude(p, a);
    const low = magnitudeValue(p, magnitude);
    const high = magnitudeValue(p, magnitude + 1);
    if (roundsUp(a, 1, low, high, (magnitude & 1) === 0, negative, rounding, u)) magnitude++;
  }
  if (magnitude > max) {
    if (policy === 'nonsaturating') return specialCode(p, negative, false);
    magnitude = max;
  }
  if (negative && p.signed && !(p.specials === 'fnuz' && magnitude === 0)) return magnitude | signBit(p);
  return magnitude;
}
