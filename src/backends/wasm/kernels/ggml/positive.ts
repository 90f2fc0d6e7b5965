// Quantizing the scales of a super-block under importance weights; definition: fitPositive in
// src/formats/ggml/search-affine.ts. 8 or 16 numbers, scalar.

import { nearestInt } from './lanes';

// @ts-ignore: decorator
@inline
function at(p: usize, i: i32): f32 {
  return load<f32>(p + (<usize>i << 2));
}

/** Codes 0 … qmax of n values under weights w; returns the scale, or −1 to decline (a negative or tiny value). */
export function fitPositive(x: usize, n: i32, w: usize, qmax: i32, codes: usize): f32 {
  let most: f32 = 0;
  for (let i = 0; i < n; i++) {
    if (!(at(x, i) >= 0)) return -1;
    most = max(most, at(x, i));
  }
  if (most < 1e-15) {
    for (let i = 0; i < n; i++) store<u8>(codes + i, 0);
    return 0;
  }
  let inverse: f32 = <f32>qmax / most;
  let best: f32 = 0;
  for (let k = 0; k <= 8; k++) {
    const shift = k == 0 ? 0 : k <= 4 ? k - 5 : k - 4;
    const candidate: f32 = k == 0 ? inverse : (<f32>0.1 * <f32>shift + <f32>qmax) / most;
    const step: f32 = 1 / candidate;
    let error: f32 = 0;
    for (let i = 0; i < n; i++) {
      // On the first grid codes cannot pass qmax either: the values are at most `most`.
      const e = at(x, i) - step * <f32>min(qmax, nearestInt(candidate * at(x, i)));
      error += at(w, i) * e * e;
    }
    if (k == 0) best = error;
    else if (error < best) {
      best = error;
      inverse = candidate;
    }
  }
  let sumXL: f32 = 0;
  let sumLL: f32 = 0;
  for (let i = 0; i < n; i++) {
    const l = min(qmax, nearestInt(inverse * at(x, i)));
    store<u8>(codes + i, l);
    sumXL += at(w, i) * at(x, i) * <f32>l;
    sumLL += at(w, i) * <f32>l * <f32>l;
  }
  for (let round = 0; round < 5; round++) {
    let changed = false;
    for (let i = 0; i < n; i++) {
      const old = <i32>load<u8>(codes + i);
      const weight = at(w, i);
      const v = at(x, i);
      let xl = sumXL - weight * v * <f32>old;
      let ll = sumLL - weight * <f32>old * <f32>old;
      if (!(xl > 0 && ll > 0)) continue;
      const target = (v * ll) / xl;
      if (!(target < 4e6)) return -1;
      const l = min(qmax, nearestInt(target));
      if (l == old) continue;
      xl += weight * v * <f32>l;
      ll += weight * <f32>l * <f32>l;
      if (xl * xl * sumLL > sumXL * sumXL * ll) {
        store<u8>(codes + i, l);
        sumXL = xl;
        sumLL = ll;
        changed = true;
      }
    }
    if (!changed) break;
  }
  return sumLL > 0 ? sumXL / sumLL : 0;
}
