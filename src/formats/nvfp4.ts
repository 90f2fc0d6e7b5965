// NVFP4 as five libraries compute it, and the per-block choices four-over-six and IF4.
//
// NVFP4 is E2M1 × E4M3 block scale × f32 tensor scale g, with g = amax / (6 · 448). Libraries agree on ordinary data and
// differ in zero, tiny and tie cases, because they order the float32 operations differently (B: amax of the block,
// S = fl(2688 / amax), t: what is rounded to E2M1):
//   transformer-engine   s = B · fl(S · fl(1/6)); t = x · min(fl(1 / (s · fl(1/S))), FLT_MAX)
//   torchao              s = clamp(fl(B/6) / g, 2^-6, 448); t = x · fl(fl(1/g) / s)
//   modelopt             s = clamp(B / fl(6 g), 2^-9, 448), zero blocks 1; t = x / fl(s g); −0 becomes +0
//   compressed-tensors   s = S · fl(B/6), zero becomes 0.125 (the type's epsilon); t = x / fl(s / S)
//   fouroversix          s = fl(B/6) · S; t = x · fl(1 / fl(g s)); zero scale: zero elements
// ms-eden has a file of its own.
// s is rounded to E4M3 (nearest even, saturating), t is clamped to ±6. With `absmax` block-codec.ts is used instead.
//
// Four-over-six (arXiv 2512.02010): g = amax / (6 · 256); base = fl(B/6) · fl(1536/amax); the block is encoded with
// E4M3(base) and E4M3(1.5 · base), and the smaller error (mse, mae, absmax; float32, element order) wins, ties to the
// first. IF4 (arXiv 2603.28765): scale as fouroversix; E2M1 codes of t against INT4 codes of 7/6 · t; the integer arm
// wins when strictly better and is marked by the sign bit of the scale byte. Constants are the published decimals.

import { roundNearestEven } from './bits.ts';
import { type BlockEncoder, tensorScaleOf } from './block-codec.ts';
import type { QuantSpec } from './format.ts';
import { encodeMinifloat, minifloatValues } from './minifloat.ts';
import { edenEncoder, edenTensorScale } from './ms-eden.ts';
import { decodeScale } from './scale-format.ts';
import { isNvfp4Convention } from './scale-rules.ts';
import { minifloats } from './table.ts';

const f = Math.fround;
const floatMax = 3.4028234663852886e38;
const e2m1 = minifloats.e2m1;
const e2m1Values = minifloatValues(e2m1);
const e4m3 = (x: number) => encodeMinifloat(minifloats.e4m3, x);

/** Whether the spec is encoded here and not by block-codec.ts. */
export const usesNvfp4Codec = (spec: QuantSpec) => isNvfp4Convention(spec.scale.rule) || spec.choice !== 'none';

const scaleTop = (spec: QuantSpec) => (spec.choice === 'four-over-six' ? 256 : 448);

/** The multiplicative second-level scale g. */
export function nvfp4TensorScale(spec: QuantSpec, tensorAmax: number): number {
  if (!spec.scale.tensorScale) return 1;
  if (spec.scale.rule === 'ms-eden') return edenTensorScale(tensorAmax);
  if (spec.scale.rule === 'compressed-tensors') {
    const divided = f(2688 / tensorAmax);
    return tensorAmax > 0 ? f(1 / Math.min(divided, floatMax)) : 1;
  }
  if (spec.choice === 'none') return tensorScaleOf(spec, tensorAmax);
  const g = f(tensorAmax / (6 * scaleTop(spec)));
  return g > 0 ? g : 1;
}

interface Recipe {
  /** E4M3 code of a block with this amax. */
  scale(amax: number): number;
  /** What is rounded to E2M1 when the block scale decodes to s. */
  input(x: number, s: number): number;
}

function recipe(spec: QuantSpec, tensorAmax: number): Recipe {
  const g = nvfp4TensorScale(spec, tensorAmax);
  const top = 6 * scaleTop(spec);
  const encodeScale = tensorAmax > 0 && spec.scale.tensorScale ? Math.min(f(top / tensorAmax), floatMax) : 1;
  const bounded = (t: number) => Math.min(Math.max(t, -6), 6);
  switch (spec.choice === 'none' ? spec.scale.rule : 'fouroversix') {
    case 'transformer-engine': {
      const folded = f(encodeScale * f(1 / 6));
      const decode = f(1 / encodeScale);
      return {
        scale: (amax) => e4m3(f(amax * folded)),
        input: (x, s) => bounded(f(x * Math.min(f(1 / f(s * decode)), floatMax))),
      };
    }
    case 'torchao':
      return {
        scale: (amax) => e4m3(Math.min(Math.max(f(f(amax / 6) / g), 2 ** -6), 448)),
        input: spec.scale.tensorScale ? (x, s) => bounded(f(x * f(f(1 / g) / s))) : (x, s) => bounded(f(x / s)),
      };
    case 'modelopt': {
      const divisor = f(6 * g);
      return {
        scale: (amax) => e4m3(amax === 0 ? 1 : Math.min(Math.max(f(amax / divisor), 2 ** -9), 448)),
        input: (x, s) => (x === 0 ? 0 : bounded(f(x / f(s * g)))),
      };
    }
    case 'compressed-tensors':
      return {
        scale: (amax) => e4m3(f(encodeScale * f(amax / 6))) || e4m3(0.125),
        input: (x, s) => bounded(f(x / f(s / encodeScale))),
      };
    default:
      return {
        scale: (amax) => e4m3(f(f(amax / 6) * encodeScale)),
        input: (x, s) => (s === 0 ? 0 : bounded(f(x * f(1 / f(g * s))))),
      };
  }
}

function amaxOf(x: Float32Array, n: number): number {
  let amax = 0;
  for (let i = 0; i < n; i++) amax = Math.max(amax, Math.abs(x[i]!));
  return amax;
}

/** Values in a block: choices exist for groups and tiles only. */
function blockValues(spec: QuantSpec): number {
  const g = spec.granularity;
  if (g.kind === 'group') return g.size;
  if (g.kind === 'tile') return g.rows * g.cols;
  throw new Error(`nvfp4: a choice per ${g.kind} is not defined`);
}

type ErrorMeasure = (error: number, difference: number) => number;

const measures: Readonly<Record<string, ErrorMeasure>> = {
  mse: (error, d) => f(error + f(d * d)),
  mae: (error, d) => f(error + Math.abs(d)),
  absmax: (error, d) => Math.max(error, Math.abs(d)),
};

/** Encoder for NVFP4 conventions and choices; `tensorAmax` is the largest magnitude of the whole tensor. */
export function nvfp4BlockEncoder(spec: QuantSpec, tensorAmax: number): BlockEncoder {
  if (spec.scale.rule === 'ms-eden') return edenEncoder(spec, tensorAmax);
  const { rounding, choice } = spec;
  const { scale: scaleOf, input } = recipe(spec, tensorAmax);
  const encode = (t: number, u: number) => encodeMinifloat(e2m1, t, 'saturating', rounding, u);
  if (choice === 'none') {
    return {
      bits: 4,
      encode(x, n, codes, u) {
        const scale = scaleOf(amaxOf(x, n));
        const s = decodeScale('e4m3', scale);
        for (let i = 0; i < n; i++) codes[i] = encode(input(x[i]!, s), u(i));
        return { scale, zero: 0 };
      },
    };
  }
  const measure = measures[spec.scale.rule]!;
  const top = 6 * scaleTop(spec);
  const dequantized = (q: number, s: number) => f(f(f(q * s) * tensorAmax) / top);
  // codes of the second candidate
  const second = new Uint8Array(blockValues(spec));

  if (choice === 'four-over-six') {
    const multiplier = tensorAmax > 0 ? Math.min(f(1536 / tensorAmax), floatMax) : 1;
    return {
      bits: 4,
      encode(x, n, codes, u) {
        const base = f(f(amaxOf(x, n) / 6) * multiplier);
        const candidates = [e4m3(base), e4m3(f(1.5 * base))];
        const errors = candidates.map((scale, which) => {
          const s = decodeScale('e4m3', scale);
          const target = which === 0 ? codes : second;
          let error = 0;
          for (let i = 0; i < n; i++) {
            target[i] = encode(input(x[i]!, s), u(i));
            error = measure(error, f(dequantized(e2m1Values[target[i]!]!, s) - x[i]!));
          }
          return error;
        });
        if (!(errors[1]! < errors[0]!)) return { scale: candidates[0]!, zero: 0 };
        codes.set(second.subarray(0, n));
        return { scale: candidates[1]!, zero: 0 };
      },
    };
  }
  return {
    bits: 4,
    encode(x, n, codes, u) {
      const scale = scaleOf(amaxOf(x, n));
      const s = decodeScale('e4m3', scale);
      let floatError = 0;
      let intError = 0;
      for (let i = 0; i < n; i++) {
        const t = input(x[i]!, s);
        codes[i] = encode(t, u(i));
        floatError = measure(floatError, f(dequantized(e2m1Values[codes[i]!]!, s) - x[i]!));
        const scaled = f(t * f(1.16666666));
        const q = Math.min(
          Math.max(rounding === 'stochastic' ? Math.floor(scaled + u(i)) : roundNearestEven(scaled), -7),
          7,
        );
        second[i] = q & 15;
        intError = measure(intError, f(dequantized(f(q * f(0.8571428571)), s) - x[i]!));
      }
      if (!(intError < floatError)) return { scale, zero: 0 };
      codes.set(second.subarray(0, n));
      return { scale: scale | 0x80, zero: 0 };
    },
  };
}
