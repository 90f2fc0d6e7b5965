// Four-over-six (src/formats/nvfp4.ts): of two scales of an NVFP4 block, which map its maximum to 6 or to 4, the better.
//
// The error of a candidate is a float32 sum in element order, so the last additions are done one by one; everything before
// them is done four values at a time. The codes follow afterwards from the chosen scale like Transformer Engine's: the
// product of a value and fl(1 / step) is rounded. Blocks whose scale is zero have zero codes, without signs.

import { decodeScale, e4m3Code, scaleE4m3 } from './scale';

export const measureMse: i32 = 1;
export const measureMae: i32 = 2;
export const measureAbsmax: i32 = 3;

/** Error of a block under E4M3 scale code `code`. */
function blockError(
  values: usize,
  count: i32,
  code: u32,
  tensorScale: f32,
  tensorAmax: f32,
  measure: i32,
): f32 {
  const s = decodeScale(scaleE4m3, code);
  const inverse = f32x4.splat(s == 0 ? 0 : 1 / (tensorScale * s));
  const scale = f32x4.splat(s);
  const amax = f32x4.splat(tensorAmax);
  const one = i32x4.splat(0x3f800000);
  let error: f32 = 0;
  for (const end = values + (<usize>count << 2); values < end; values += 16) {
    const x = v128.load(values);
    const q = f32x4.pmin(f32x4.abs(f32x4.mul(x, inverse)), f32x4.splat(6));
    // E2M1 has spacing e/2 in the binade that starts at e, and 1/2 below 1
    const e = i32x4.max_s(v128.and(q, i32x4.splat(0x7f800000)), one);
    const spacing = f32x4.mul(e, f32x4.splat(0.5));
    const element = f32x4.mul(f32x4.nearest(f32x4.div(q, spacing)), spacing);
    const signed = v128.or(element, v128.and(x, i32x4.splat(0x80000000)));
    const y = f32x4.div(f32x4.mul(f32x4.mul(signed, scale), amax), f32x4.splat(1536));
    const d = f32x4.abs(f32x4.sub(y, x));
    const term = measure == measureMse ? f32x4.mul(d, d) : d;
    if (measure == measureAbsmax) {
      error = max(error, max(f32x4.extract_lane(term, 0), f32x4.extract_lane(term, 1)));
      error = max(error, max(f32x4.extract_lane(term, 2), f32x4.extract_lane(term, 3)));
    } else {
      error += f32x4.extract_lane(term, 0);
      error += f32x4.extract_lane(term, 1);
      error += f32x4.extract_lane(term, 2);
      error += f32x4.extract_lane(term, 3);
    }
  }
  return error;
}

/** E4M3 code of the better scale; `multiplier` is fl(1536 / amax of the tensor). */
export function fourOverSix(
  values: usize,
  count: i32,
  amax: f32,
  multiplier: f32,
  tensorScale: f32,
  tensorAmax: f32,
  measure: i32,
): u32 {
  const base = (amax / 6) * multiplier;
  const six = e4m3Code(base);
  const four = e4m3Code(<f32>1.5 * base);
  const error = blockError(values, count, six, tensorScale, tensorAmax, measure);
  return blockError(values, count, four, tensorScale, tensorAmax, measure) < error ? four : six;
}
