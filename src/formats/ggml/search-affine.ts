// Searches for scale and minimum of unsigned codes: value = scale·q + min with min ≤ 0 (Q2_K, Q4_K, Q5_K, Q4_1, Q5_1).
//
// Method: start from the plain min–max grid, then for each candidate inverse scale (rmin + rdelta·k + qmax)/(max − min)
// round to codes, solve the weighted least squares problem for (scale, min) in closed form and keep the fit with the
// smallest weighted error. The grid origin is the best minimum found so far, so the order of candidates matters.
// Source: ggml's make_qkx2/make_qkx3 (the same arithmetic) and make_qp, restated in block-type documentation.

import { groupEpsilon, nearestInt } from './arithmetic.ts';

const f = Math.fround;

/** The candidate grid: inverse scales (start + step·k + qmax)/(max − min), k = 0 … steps. */
export interface AffineSearch {
  start: number;
  step: number;
  steps: number;
  /** Weighted absolute error instead of squared error. */
  absolute: boolean;
}

/** value = scale·q − offset; offset ≥ 0. */
export interface AffineFit {
  scale: number;
  offset: number;
}

/** What every type uses when importance weights are given. */
export const importanceSearch: AffineSearch = { start: f(-0.9), step: f(0.05), steps: 36, absolute: false };

const trial = new Uint8Array(256);

/**
 * Fit x[at … at+n) with codes 0 … qmax under weights w[0 … n). Writes codes[codesAt …] and `fit`.
 * A range without extent gives codes 0 and scale 0.
 */
export function fitAffine(
  x: Float32Array,
  at: number,
  n: number,
  w: Float32Array,
  qmax: number,
  search: AffineSearch,
  codes: Uint8Array,
  codesAt: number,
  fit: AffineFit,
): void {
  let min = x[at];
  let max = x[at];
  let sumW = w[0];
  let sumX = f(sumW * x[at]);
  for (let i = 1; i < n; i++) {
    const v = x[at + i];
    if (v < min) min = v;
    if (v > max) max = v;
    sumW = f(sumW + w[i]);
    sumX = f(sumX + f(w[i] * v));
  }
  if (min > 0) min = 0;
  if (max === min) {
    codes.fill(0, codesAt, codesAt + n);
    fit.scale = 0;
    fit.offset = -min;
    return;
  }
  let inverse = f(qmax / f(max - min));
  let scale = f(1 / inverse);
  let best = 0;
  for (let i = 0; i < n; i++) {
    const v = x[at + i];
    const q = nearestInt(f(inverse * f(v - min)));
    const code = q < 0 ? 0 : q > qmax ? qmax : q;
    codes[codesAt + i] = code;
    const e = f(f(f(scale * code) + min) - v);
    best = f(best + f(w[i] * (search.absolute ? Math.abs(e) : f(e * e))));
  }
  for (let k = 0; k <= search.steps; k++) {
    inverse = f(f(f(search.start + f(search.step * k)) + qmax) / f(max - min));
    let sumL = 0;
    let sumLL = 0;
    let sumXL = 0;
    for (let i = 0; i < n; i++) {
      const v = x[at + i];
      const q = nearestInt(f(inverse * f(v - min)));
      const code = q < 0 ? 0 : q > qmax ? qmax : q;
      trial[i] = code;
      const wl = f(w[i] * code);
      sumL = f(sumL + wl);
      sumLL = f(sumLL + f(wl * code));
      sumXL = f(sumXL + f(wl * v));
    }
    const determinant = f(f(sumW * sumLL) - f(sumL * sumL));
    if (!(determinant > 0)) continue;
    let newScale = f(f(f(sumW * sumXL) - f(sumX * sumL)) / determinant);
    let newMin = f(f(f(sumLL * sumX) - f(sumL * sumXL)) / determinant);
    if (newMin > 0) {
      newMin = 0;
      newScale = f(sumXL / sumLL);
    }
    let error = 0;
    for (let i = 0; i < n; i++) {
      const e = f(f(f(newScale * trial[i]) + newMin) - x[at + i]);
      error = f(error + f(w[i] * (search.absolute ? Math.abs(e) : f(e * e))));
    }
    if (error < best) {
      for (let i = 0; i < n; i++) codes[codesAt + i] = trial[i];
      best = error;
      scale = newScale;
      min = newMin;
    }
  }
  fit.scale = scale;
  fit.offset = -min;
}

/**
 * Quantize n non-negative numbers (the sub-block scales) to codes 0 … qmax with one scale, weighted by w: a scan over
 * inverse scales, then up to five rounds of coordinate ascent on (Σ w·x·l)²/Σ w·l². Returns the scale.
 */
export function fitPositive(x: Float32Array, n: number, w: Float32Array, qmax: number, codes: Uint8Array): number {
  let max = 0;
  for (let i = 0; i < n; i++) if (x[i] > max) max = x[i];
  if (max < groupEpsilon) {
    codes.fill(0, 0, n);
    return 0;
  }
  let inverse = f(qmax / max);
  let best = 0;
  for (let k = 0; k <= 8; k++) {
    // The unscaled grid first, then −4 … 4 without 0.
    const shift = k === 0 ? 0 : k <= 4 ? k - 5 : k - 4;
    const candidate = k === 0 ? inverse : f(f(f(f(0.1) * shift) + qmax) / max);
    const step = f(1 / candidate);
    let error = 0;
    for (let i = 0; i < n; i++) {
      let l = nearestInt(f(candidate * x[i]));
      // The first grid stores its codes in a byte and does not limit them.
      if (k === 0) l &= 255;
      else if (l > qmax) l = qmax;
      const e = f(x[i] - f(step * l));
      error = f(error + f(f(w[i] * e) * e));
    }
    if (k === 0) best = error;
    else if (error < best) {
      best = error;
      inverse = candidate;
    }
  }
  let sumXL = 0;
  let sumLL = 0;
  for (let i = 0; i < n; i++) {
    const l = Math.min(qmax, nearestInt(f(inverse * x[i])));
    codes[i] = l;
    sumXL = f(sumXL + f(f(w[i] * x[i]) * l));
    sumLL = f(sumLL + f(f(w[i] * l) * l));
  }
  for (let round = 0; round < 5; round++) {
    let changed = false;
    for (let i = 0; i < n; i++) {
      const wx = f(w[i] * x[i]);
      let xl = f(sumXL - f(wx * codes[i]));
      let ll = f(sumLL - f(f(w[i] * codes[i]) * codes[i]));
      if (!(xl > 0 && ll > 0)) continue;
      const l = Math.min(qmax, nearestInt(f(f(x[i] * ll) / xl)));
      if (l === codes[i]) continue;
      xl = f(xl + f(wx * l));
      ll = f(ll + f(f(w[i] * l) * l));
      if (f(f(xl * xl) * sumLL) > f(f(sumXL * sumXL) * ll)) {
        codes[i] = l;
        sumXL = xl;
        sumLL = ll;
        changed = true;
      }
    }
    if (!changed) break;
  }
  return sumLL > 0 ? f(sumXL / sumLL) : 0;
}
