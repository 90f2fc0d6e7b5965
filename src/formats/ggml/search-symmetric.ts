// Searches for the scale of signed codes −m … m−1: value = scale·l (Q3_K, Q6_K; Q4_0 and Q5_0 under importance).
//
// Both maximize (Σ w·x·l)²/Σ w·l², which is what the best least-squares scale Σ w·x·l/Σ w·l² explains of the block.
// fitSymmetric scans 19 inverse scales −(m + 0.1·k)/M, M the signed maximum; fitCoordinates starts at −m/M and moves
// one code at a time for up to five rounds. Source: ggml's make_qx (mode 1) and make_q3.

import { clamp, groupEpsilon, nearestInt, signedMaximum } from './arithmetic.ts';

const f = Math.fround;

/**
 * Scale of x[at … at+n) for codes −m … m−1 under weights w[wAt …] (x² when w is undefined).
 * Writes codes + m (bytes 0 … 2m−1); an all-zero range gives scale 0 and bytes 0.
 */
export function fitSymmetric(
  x: Float32Array,
  at: number,
  n: number,
  m: number,
  w: Float32Array | undefined,
  wAt: number,
  codes: Uint8Array,
  codesAt: number,
): number {
  const max = signedMaximum(x, at, n);
  if (Math.abs(max) < groupEpsilon) {
    codes.fill(0, codesAt, codesAt + n);
    return 0;
  }
  let scale = 0;
  let best = 0;
  let bestInverse = f(-m / max);
  for (let k = 0; k <= 18; k++) {
    // The plain grid first, then −9 … 9 without 0.
    const shift = k === 0 ? 0 : k <= 9 ? k - 10 : k - 9;
    const inverse = k === 0 ? bestInverse : f(-f(m + f(f(0.1) * shift)) / max);
    let sumXL = 0;
    let sumLL = 0;
    for (let i = 0; i < n; i++) {
      const v = x[at + i];
      const q = nearestInt(f(inverse * v));
      const l = q < -m ? -m : q > m - 1 ? m - 1 : q;
      const weight = w ? w[wAt + i] : f(v * v);
      sumXL = f(sumXL + f(f(weight * v) * l));
      sumLL = f(sumLL + f(f(weight * l) * l));
    }
    if (k === 0) scale = sumLL !== 0 ? f(sumXL / sumLL) : 0;
    else if (sumLL > 0 && f(sumXL * sumXL) > f(best * sumLL)) {
      scale = f(sumXL / sumLL);
      bestInverse = inverse;
    } else continue;
    best = f(scale * sumXL);
  }
  for (let i = 0; i < n; i++) {
    codes[codesAt + i] = m + clamp(nearestInt(f(bestInverse * x[at + i])), -m, m - 1);
  }
  return scale;
}

/** Scale of x[at … at+n) for codes −m … m−1 under weights x² by coordinate ascent. Writes codes + m. */
export function fitCoordinates(
  x: Float32Array,
  at: number,
  n: number,
  m: number,
  codes: Uint8Array,
  codesAt: number,
): number {
  const max = signedMaximum(x, at, n);
  if (Math.abs(max) < groupEpsilon) {
    codes.fill(0, codesAt, codesAt + n);
    return 0;
  }
  const inverse = f(-m / max);
  let sumXL = 0;
  let sumLL = 0;
  for (let i = 0; i < n; i++) {
    const v = x[at + i];
    const l = clamp(nearestInt(f(inverse * v)), -m, m - 1);
    codes[codesAt + i] = l + m;
    const w = f(v * v);
    sumXL = f(sumXL + f(f(w * v) * l));
    sumLL = f(sumLL + f(f(w * l) * l));
  }
  for (let round = 0; round < 5; round++) {
    let changed = false;
    for (let i = 0; i < n; i++) {
      const v = x[at + i];
      const w = f(v * v);
      const wx = f(w * v);
      const old = codes[codesAt + i] - m;
      let xl = f(sumXL - f(wx * old));
      if (!(xl > 0)) continue;
      let ll = f(sumLL - f(f(w * old) * old));
      const l = clamp(nearestInt(f(f(v * ll) / xl)), -m, m - 1);
      if (l === old) continue;
      xl = f(xl + f(wx * l));
      ll = f(ll + f(f(w * l) * l));
      if (ll > 0 && f(f(xl * xl) * sumLL) > f(f(sumXL * sumXL) * ll)) {
        codes[codesAt + i] = l + m;
        sumXL = xl;
        sumLL = ll;
        changed = true;
      }
    }
    if (!changed) break;
  }
  return sumLL > 0 ? f(sumXL / sumLL) : 0;
}
