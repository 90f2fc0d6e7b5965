// Quantizing the 16 signed scales of a Q3_K super-block under importance: fitSymmetric of
// src/formats/ggml/search-symmetric.ts for codes −32 … 31, candidates in lanes.

import { held, larger, magicAt, nearestInt, smaller, splat } from './lanes';

/** The plain grid, −9 … 9 without 0, and a last one that only fills the lanes. */
const shifts = memory.data<f32>([0, -9, -8, -7, -6, -5, -4, -3, -2, -1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9]);
const candidates: usize = 19;

/**
 * Codes + 32 of 16 values under weights w; returns their scale.
 * @param most the value of largest magnitude, with its sign: at least 1e-14 in magnitude
 * @param work 240 bytes
 */
export function fitSigned(x: usize, w: usize, most: f32, codes: usize, work: usize): f32 {
  const m = held(magicAt);
  const top = f32x4.add(m, splat(31));
  const bottom = f32x4.sub(m, splat(32));
  for (let k: usize = 0; k < 80; k += 16) {
    const grid = f32x4.add(splat(32), f32x4.mul(splat(0.1), v128.load(shifts + k)));
    const inverse = f32x4.div(f32x4.neg(grid), splat(most));
    let xl = splat(0);
    let ll = splat(0);
    for (let i: usize = 0; i < 64; i += 4) {
      const v = v128.load32_splat(x + i);
      const weight = v128.load32_splat(w + i);
      const l = f32x4.sub(smaller(top, larger(bottom, f32x4.add(f32x4.mul(inverse, v), m))), m);
      xl = f32x4.add(xl, f32x4.mul(f32x4.mul(weight, v), l));
      ll = f32x4.add(ll, f32x4.mul(f32x4.mul(weight, l), l));
    }
    v128.store(work + k, inverse);
    v128.store(work + k, xl, 80);
    v128.store(work + k, ll, 160);
  }
  let scale: f32 = 0;
  let best: f32 = 0;
  let kept = work;
  for (let k = work; k < work + 4 * candidates; k += 4) {
    const xl = load<f32>(k, 80);
    const ll = load<f32>(k, 160);
    if (k == work) scale = ll != 0 ? xl / ll : 0;
    else if (ll > 0 && xl * xl > best * ll) {
      scale = xl / ll;
      kept = k;
    } else continue;
    best = scale * xl;
  }
  const inverse = load<f32>(kept);
  for (let i: usize = 0; i < 16; i++) {
    store<u8>(codes + i, max(-32, min(31, nearestInt(inverse * load<f32>(x + 4 * i)))) + 32);
  }
  return scale;
}
