// One view of all element types for the block codecs: bits, largest value, values of the codes, nearest code to x/step.

import { codebooks, encodeCodebook } from './codebook.ts';
import type { QuantSpec } from './format.ts';
import { encodeInt, signedRange } from './int.ts';
import { floorMagnitude, magnitudeValue, maxMagnitudeCode, minifloatValues, roundsUp } from './minifloat.ts';
import { codebookBits, intBits, isInt, isMinifloat, type MinifloatParameters, minifloats } from './table.ts';

export interface ElementCodec {
  readonly bits: number;
  /** The value that amax maps to: scale = amax / max. */
  readonly max: number;
  /** Value of every code, as a float32. */
  readonly values: Float32Array;
  /** Code nearest to x / step, saturating. `u` in [0, 1) is used by stochastic rounding only. */
  encode(x: number, step: number, u: number): number;
}

/** Fixed-point weight of the last bit: 2^-(b−2) for integers under e8m0 scales (MXINT8: 1/64), otherwise 1. */
export function integerUnit(spec: QuantSpec): number {
  return isInt(spec.element) && spec.scale.format === 'e8m0' ? 2 ** -(intBits[spec.element] - 2) : 1;
}

function minifloatCodec(p: MinifloatParameters, spec: QuantSpec): ElementCodec {
  const last = maxMagnitudeCode(p);
  const magnitudes = Float64Array.from({ length: last + 1 }, (_, code) => magnitudeValue(p, code));
  const sign = 1 << (p.bits - 1);
  const negativeZero = p.specials !== 'fnuz';
  const { rounding } = spec;
  return {
    bits: p.bits,
    max: p.max,
    values: minifloatValues(p),
    encode(x, step, u) {
      const negative = x < 0 || Object.is(x, -0);
      let code = 0;
      if (step !== 0) {
        const a = Math.abs(x);
        code = floorMagnitude(p, a / step);
        if (code >= last) code = last;
        else if (roundsUp(a, step, magnitudes[code]!, magnitudes[code + 1]!, (code & 1) === 0, negative, rounding, u))
          code++;
      }
      return negative && (code !== 0 || negativeZero) ? code | sign : code;
    },
  };
}

function intCodec(bits: number, spec: QuantSpec): ElementCodec {
  const { rounding } = spec;
  const mask = 2 ** bits - 1;
  const unit = integerUnit(spec);
  if (spec.zeroPoint !== 'none') {
    // unsigned codes; the zero point is added by the block codec
    return {
      bits,
      max: mask,
      values: Float32Array.from({ length: mask + 1 }, (_, q) => q),
      encode: (x, step, u) => encodeInt(x, step, -mask, mask, rounding, u),
    };
  }
  const [min, max] = signedRange(bits, spec.range === 'restricted');
  return {
    bits,
    max: { restricted: max, 'half-range': mask / 2, 'signed-max': -(max + 1) }[spec.range] * unit,
    values: Float32Array.from({ length: mask + 1 }, (_, q) => (q > max ? q - mask - 1 : q) * unit),
    encode: (x, step, u) => encodeInt(x, step * unit, min, max, rounding, u) & mask,
  };
}

/** The codec of a spec's element under its range and rounding rule. */
export function elementCodec(spec: QuantSpec): ElementCodec {
  const { element, rounding } = spec;
  if (isMinifloat(element)) return minifloatCodec(minifloats[element], spec);
  if (isInt(element)) return intCodec(intBits[element], spec);
  const book = codebooks[element];
  return {
    bits: codebookBits[element],
    max: 1,
    values: book.values,
    encode: (x, step, u) => encodeCodebook(book, x, step, rounding, u),
  };
}
