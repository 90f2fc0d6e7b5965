// The codec of QuantSpec: element codes with one scale a tile, for every element, granularity and scale rule, except
// the library conventions and per-block choices of NVFP4 (nvfp4.ts).
//
// Per tile: statistics → scale, rounded to its storage format → every element goes to the code nearest to x / step,
// step = fl(scale × tensorScale), decided by comparing with fl(step × midpoint) (minifloat.ts).
//   symmetric       scale = fl(amax / max); max is 2^(b−1) − 1 (restricted), (2^b − 1)/2 (half-range), or the signed
//                   value of largest magnitude / −2^(b−1) (signed-max, first one wins; the scale may be negative)
//   integer zero    lo = min(x, 0), hi = max(x, 0); scale = fl(fl(hi − lo) / (2^b − 1)); z = RNE(fl(−lo / scale));
//                   code = clamp(round(x / scale) + z): ties are even on the quotient, not on the sum
//   float minimum   m = lo, not forced below 0, rounded to the scale format; code = round(fl(x − m) / scale)
//   fixed           scale and zero point are given (fixed-scale.ts); codes beyond the last are the last
//   two-level       tensorScale = fl(amax of the tensor / fl(max · scaleMax)); scale = fl(amax / fl(max · tensorScale))
// A tile of zeros has scale code 0 and the codes of zero; a positive scale never rounds to zero.

import { roundNearestEven } from './bits.ts';
import { type ElementCodec, elementCodec } from './element.ts';
import type { FixedScale } from './fixed-scale.ts';
import type { QuantSpec } from './format.ts';
import { decodeScale, encodeScale, scaleMax } from './scale-format.ts';
import { type BlockStatistics, e8m0Code, isSearch, questScale, searchFractions } from './scale-rules.ts';

/** The encoding of one tile. `codes` is filled in place. */
export interface BlockResult {
  scale: number;
  /** Zero-point code, or the code of the float minimum. */
  zero: number;
}

export interface BlockEncoder {
  readonly bits: number;
  /** Encodes `n` values; u(i) gives the random number of value i when rounding is stochastic. */
  encode(x: Float32Array, n: number, codes: Uint8Array, u: (i: number) => number): BlockResult;
}

/** The second-level scale of a two-level spec; 1 where there is none or the tensor is zero. */
export function tensorScaleOf(spec: QuantSpec, tensorAmax: number): number {
  if (!spec.scale.tensorScale) return 1;
  if (spec.scale.rule === 'four-thirds') return Math.fround(4 / 3);
  const g = Math.fround(tensorAmax / (elementCodec(spec).max * scaleMax(spec.scale.format)));
  return g > 0 ? g : 1;
}

function statistics(x: Float32Array, n: number, withStd: boolean): BlockStatistics {
  let amax = 0;
  for (let i = 0; i < n; i++) amax = Math.max(amax, Math.abs(x[i]!));
  if (!withStd) return { amax, std: 0 };
  let sum = 0;
  for (let i = 0; i < n; i++) sum += x[i]!;
  const mean = sum / n;
  let square = 0;
  for (let i = 0; i < n; i++) square += (x[i]! - mean) ** 2;
  return { amax, std: Math.sqrt(square / n) };
}

/** First value of largest magnitude, with its sign. */
function signedMax(x: Float32Array, n: number): number {
  let best = 0;
  for (let i = 0; i < n; i++) if (Math.abs(x[i]!) > Math.abs(best)) best = x[i]!;
  return best;
}

function meanMagnitude(x: Float32Array, n: number): number {
  let sum = 0;
  for (let i = 0; i < n; i++) sum += Math.abs(x[i]!);
  return sum / n;
}

/** Scale codes to try for a symmetric block, best guess first. */
function symmetricCandidates(
  spec: QuantSpec,
  codec: ElementCodec,
  tensorScale: number,
  x: Float32Array,
  n: number,
): number[] {
  const { format, rule } = spec.scale;
  const block = statistics(x, n, rule === 'quest' || rule === 'quest-nearest');
  const clip = Math.fround(spec.clip);
  block.amax = Math.fround(block.amax * clip);
  if (format === 'e8m0') {
    const code = e8m0Code(rule, block, spec.element, codec.max);
    return isSearch(rule) ? [code, Math.min(code + 1, 254), Math.max(code - 1, 0)] : [code];
  }
  if (rule === 'quest') return [encodeScale(format, questScale(block.std))];
  const top = spec.range === 'signed-max' ? Math.fround(signedMax(x, n) * clip) : block.amax;
  const covered = rule === 'absmean' ? Math.fround(meanMagnitude(x, n)) : top;
  const divisor = Math.fround(codec.max * tensorScale);
  if (!isSearch(rule)) return [encodeScale(format, Math.fround(covered / divisor))];
  return searchFractions.map((p) => encodeScale(format, Math.fround(Math.fround(covered * p) / divisor)));
}

/** Encoder of one tile's values under a spec; `tensorScale` is 1 for one-level specs. */
export function blockEncoder(spec: QuantSpec, tensorScale: number, fixed?: FixedScale): BlockEncoder {
  if (fixed) return fixedEncoder(spec, fixed);
  return spec.zeroPoint === 'none' ? symmetricEncoder(spec, tensorScale) : asymmetricEncoder(spec);
}

function fixedEncoder(spec: QuantSpec, { scale, zeroPoint = 0 }: FixedScale): BlockEncoder {
  const codec = elementCodec(spec);
  const code = encodeScale(spec.scale.format, scale);
  return {
    bits: codec.bits,
    encode(x, n, codes, u) {
      for (let j = 0; j < n; j++) {
        const q = codec.encode(x[j]!, scale, u(j));
        codes[j] = spec.zeroPoint === 'none' ? q : Math.min(Math.max(q + zeroPoint, 0), codec.max);
      }
      return { scale: code, zero: zeroPoint };
    },
  };
}

/** Keeps the candidate with the smallest error; `write` encodes with candidate i and returns its error. */
function best(count: number, write: (i: number) => number): void {
  if (count === 1) {
    write(0);
    return;
  }
  let winner = 0;
  let smallest = Infinity;
  for (let i = 0; i < count; i++) {
    const error = write(i);
    if (error < smallest) {
      smallest = error;
      winner = i;
    }
  }
  write(winner);
}

function symmetricEncoder(spec: QuantSpec, tensorScale: number): BlockEncoder {
  const codec = elementCodec(spec);
  const power = spec.scale.rule === 'mae' ? 1 : 2;
  const searching = isSearch(spec.scale.rule);
  const { format } = spec.scale;
  return {
    bits: codec.bits,
    encode(x, n, codes, u) {
      const candidates = symmetricCandidates(spec, codec, tensorScale, x, n);
      let scale = candidates[0]!;
      best(candidates.length, (i) => {
        scale = candidates[i]!;
        const value = decodeScale(format, scale);
        const step = Math.fround(value * tensorScale);
        let error = 0;
        for (let j = 0; j < n; j++) {
          codes[j] = codec.encode(x[j]!, step, u(j));
          if (searching) {
            const y = Math.fround(Math.fround(codec.values[codes[j]!]! * value) * tensorScale);
            error += Math.abs(x[j]! - y) ** power;
          }
        }
        return error;
      });
      return { scale, zero: 0 };
    },
  };
}

function asymmetricEncoder(spec: QuantSpec): BlockEncoder {
  const codec = elementCodec(spec);
  const { format, rule } = spec.scale;
  const qmax = codec.max;
  const power = rule === 'mae' ? 1 : 2;
  const searching = isSearch(rule);
  const fractions = searching ? searchFractions : [1];
  const integer = spec.zeroPoint === 'integer';
  const clip = Math.fround(spec.clip);
  return {
    bits: codec.bits,
    encode(x, n, codes, u) {
      let lo = integer ? 0 : Infinity;
      let hi = integer ? 0 : -Infinity;
      for (let j = 0; j < n; j++) {
        lo = Math.min(lo, x[j]!);
        hi = Math.max(hi, x[j]!);
      }
      lo += 0; // −0 becomes 0
      const result = { scale: 0, zero: 0 };
      best(fractions.length, (i) => {
        const p = Math.fround(fractions[i]! * clip);
        const low = Math.fround(lo * p);
        const range = Math.fround(Math.fround(hi * p) - low);
        result.scale = range === 0 ? 0 : encodeScale(format, Math.fround(range / qmax));
        const scale = decodeScale(format, result.scale);
        let minimum = 0;
        let zero = 0;
        if (integer) {
          zero = scale === 0 ? 0 : Math.min(Math.max(roundNearestEven(Math.fround(-low / scale)), 0), qmax);
          result.zero = zero;
        } else {
          result.zero = encodeScale(format, low);
          minimum = decodeScale(format, result.zero);
        }
        let error = 0;
        for (let j = 0; j < n; j++) {
          const q = codec.encode(Math.fround(x[j]! - minimum), scale, u(j)) + zero;
          codes[j] = Math.min(Math.max(q, 0), qmax);
          if (searching) {
            const y = Math.fround(Math.fround((codes[j]! - zero) * scale) + minimum);
            error += Math.abs(x[j]! - y) ** power;
          }
        }
        return error;
      });
      return result;
    },
  };
}
