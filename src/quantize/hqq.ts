// HQQ (Badri and Shaji, "Half-Quadratic Quantization", 2023; ptq-core 3.10): better zero points without any data.
//
// The scales of plain rounding stay; each group's offset m, w' = s·q + m, is fitted to a norm below 1 that forgives
// outliers: minimize Σ |w − s·q − m|^p by half-quadratic splitting,
//   q = clamp(round((w − m)/s));  e = shrink(w − s·q − m);  m = mean(w − e − s·q);  β ← κ β
//   shrink(x) = sign(x) · max(0, |x| − |x|^(p−1)/β)
// until mean |w − w'| stops falling, at most `iterations` times. Formats with a float minimum store m; formats with an
// integer zero point store round(−m/s). Candidates are measured as they are stored, and the best is kept for every group
// on its own, so that no group ends worse than plain rounding in mean |w − w'|.
// Left out on purpose: the published program's bounds on 1/s (at most 2·10⁴, 1 for ranges up to 10⁻⁴), which erase small
// weights, and its optional scan of scales: write the format with `-mse` for better scales.

import { userError } from '../errors.ts';
import { roundNearestEven } from '../formats/bits.ts';
import type { Format, Quantized, QuantSpec } from '../formats/format.ts';
import { withCodes } from '../formats/grid.ts';
import { scaleLayout } from '../formats/layout.ts';
import { formatName } from '../formats/registry.ts';
import { decodeScale, encodeScale, readScale, writeScale } from '../formats/scale-format.ts';
import { intBits, isInt } from '../formats/table.ts';
import type { Fit } from './gptq/fit.ts';

export interface HqqOptions {
  /** Norm of the error. */
  p: number;
  /** Weight of the quadratic term, and its growth per iteration. */
  beta: number;
  kappa: number;
  iterations: number;
}

export const defaultHqqOptions: Readonly<HqqOptions> = { p: 0.7, beta: 10, kappa: 1.01, iterations: 20 };

/**
 * Quantizes a weight [rows, cols] by HQQ.
 *
 * @param roundPlainly gives the scales
 * @param name of the tensor, for messages
 * @throws user error for formats without a zero point
 * @example await quantizeHqq(weight, 1024, 4096, parseFormat('int4-g64-asymf'), fit, 'up_proj')
 */
export async function quantizeHqq(
  weight: Float32Array,
  rows: number,
  cols: number,
  format: Format,
  roundPlainly: Fit,
  name: string,
  options: HqqOptions = defaultHqqOptions,
): Promise<Quantized> {
  if (format.kind !== 'quant' || format.zeroPoint === 'none' || !isInt(format.element)) {
    throw userError({
      code: 'hqq-needs-zero-points',
      op: 'hqq',
      problem: 'it fits zero points, and this format has none',
      got: formatName(format),
      expected: 'integers with asym or asymf',
      fix: 'take for example int4-g64-asymf',
      tensor: name,
    });
  }
  return fitZeroPoints(weight, await roundPlainly(weight, rows, cols, format), format, options);
}

/** The matrix with better zero points and the codes that go with them. */
function fitZeroPoints(weight: Float32Array, plain: Quantized, spec: QuantSpec, options: HqqOptions): Quantized {
  const { rows, cols } = plain;
  const { tileRows, tileCols, scaleRows, scaleCols } = scaleLayout(spec.granularity, rows, cols);
  const qmax = isInt(spec.element) ? 2 ** intBits[spec.element] - 1 : 0;
  const format = spec.scale.format;
  const integer = spec.zeroPoint === 'integer';
  const zeroPoints = plain.zeroPoints!.slice();
  const codes = new Uint8Array(rows * cols);
  const places = new Uint32Array(Math.min(tileRows, rows) * Math.min(tileCols, cols));
  const values = new Float64Array(places.length);
  const q = new Uint8Array(places.length);

  for (let t = 0; t < scaleRows * scaleCols; t++) {
    const r0 = Math.floor(t / scaleCols) * tileRows;
    const c0 = (t % scaleCols) * tileCols;
    let n = 0;
    for (let r = r0; r < Math.min(r0 + tileRows, rows); r++) {
      for (let c = c0; c < Math.min(c0 + tileCols, cols); c++) {
        places[n] = r * cols + c;
        values[n] = weight[places[n]];
        n++;
      }
    }
    const scale = decodeScale(format, readScale(format, plain.scales, t));
    const stored = (m: number): number =>
      integer ? Math.min(Math.max(roundNearestEven(-m / scale), 0), qmax) : encodeScale(format, Math.fround(m));
    const offsetOf = (code: number) => (integer ? 0 - code * scale : decodeScale(format, code));
    /** Sets q and gives Σ |w − s·q − m|. */
    const roundWith = (m: number): number => {
      let error = 0;
      for (let i = 0; i < n; i++) {
        const code = scale === 0 ? 0 : Math.min(Math.max(roundNearestEven((values[i] - m) / scale), 0), qmax);
        q[i] = code;
        error += Math.abs(values[i] - scale * code - m);
      }
      return error;
    };

    let best = integer ? zeroPoints[t] : readScale(format, zeroPoints, t);
    if (scale !== 0) {
      let m = offsetOf(best);
      let smallest = roundWith(m);
      let beta = options.beta;
      for (let k = 0; k < options.iterations; k++) {
        m = shiftedMean(values, q, n, scale, m, options.p, beta);
        beta *= options.kappa;
        const code = stored(m);
        const error = roundWith(offsetOf(code));
        if (!(error < smallest)) break;
        smallest = error;
        best = code;
      }
    }
    roundWith(offsetOf(best));
    for (let i = 0; i < n; i++) codes[places[i]] = q[i];
    if (integer) zeroPoints[t] = best;
    else writeScale(format, zeroPoints, t, best);
  }
  return withCodes({ ...plain, zeroPoints }, codes);
}

/** mean(w − e − s·q) with e the shrunk errors. */
function shiftedMean(
  values: Float64Array,
  q: Uint8Array,
  n: number,
  scale: number,
  m: number,
  p: number,
  beta: number,
): number {
  // below it |x| < |x|^(p−1)/β: everything shrinks to 0 and no power is needed
  const threshold = beta ** (-1 / (2 - p));
  let sum = 0;
  for (let i = 0; i < n; i++) {
    const rest = values[i] - scale * q[i];
    const x = rest - m;
    const a = Math.abs(x);
    sum += a > threshold ? rest - Math.sign(x) * (a - a ** (p - 1) / beta) : rest;
  }
  return sum / n;
}
