// MS-EDEN: NVFP4 whose block scales make up for what rounding to nearest does to magnitudes.
//
//   g = amax of the tensor / (255.99 · m),  m = 6 / 0.988125;  S = E4M3(amax of the block / (m · g))
//   q = E2M1(x / (S · g)), to nearest;  c = Σ x² / (S · g · Σ x q);  stored scale: E4M3 of S · c, rounded stochastically
//
// Over random rotations of x the result has (nearly) no bias, at less than half the error of rounding elements
// stochastically; one random number serves a block. The maximum 255.99 leaves room for scales that grow. Source:
// Panferov et al. 2026 (arXiv:2601.22813), in the form with one correction for each block of 16.

import type { BlockEncoder } from './block-codec.ts';
import { elementCodec } from './element.ts';
import type { QuantSpec } from './format.ts';
import { decodeScale, encodeScale } from './scale-format.ts';

const f = Math.fround;

/** The value that a block's maximum maps to: a little is clipped, which the correction makes up for. */
export const edenMax = 6 / 0.988125;
/** The largest block scale before its correction. */
export const edenScaleMax = 255.99;
const lastScale = 126;

/** The second-level scale; 1 for a tensor of zeros. */
export function edenTensorScale(tensorAmax: number): number {
  const g = f(tensorAmax / (edenMax * edenScaleMax));
  return g > 0 ? g : 1;
}

/** Encoder of one block; u(0) is its random number. */
export function edenEncoder(spec: QuantSpec, tensorAmax: number): BlockEncoder {
  const codec = elementCodec(spec);
  const g = edenTensorScale(tensorAmax);
  const divisor = f(edenMax * g);
  return {
    bits: codec.bits,
    encode(x, n, codes, u) {
      let amax = 0;
      for (let i = 0; i < n; i++) amax = Math.max(amax, Math.abs(x[i]!));
      const first = encodeScale('e4m3', f(amax / divisor));
      const scale = decodeScale('e4m3', first);
      const step = f(scale * g);
      let squares = 0;
      let products = 0;
      for (let i = 0; i < n; i++) {
        codes[i] = codec.encode(x[i]!, step, 0);
        squares += x[i]! * x[i]!;
        products += x[i]! * codec.values[codes[i]!]!;
      }
      const correction = products > 0 ? squares / (step * products) : 1;
      return { scale: stochasticScale(f(scale * correction), u(0)), zero: 0 };
    },
  };
}

/** Code of one of the two E4M3 neighbours of v ≥ 0, the upper one with the probability of its nearness. */
function stochasticScale(v: number, u: number): number {
  const near = encodeScale('e4m3', v);
  const low = Math.min(decodeScale('e4m3', near) > v ? near - 1 : near, lastScale - 1);
  const [below, above] = [decodeScale('e4m3', low), decodeScale('e4m3', low + 1)];
  return u < (v - below) / (above - below) ? low + 1 : low;
}
