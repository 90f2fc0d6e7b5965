// AWQ: scales the input channels that matter most up before the weights are rounded.
//
// Problem: with a scale a group of weights, every weight gets the same absolute error, but the errors in columns of large
// inputs count more.
// Method: for r = 0, 1/20, …, 19/20 (grid 20)
//   s = max(x̄^r, 1e-4),  s ← s / √(max s · min s),   x̄_j = mean |x_j|
//   W′ = Q(W · s) / s in all layers that share the input
// and the r whose W′ give the smallest error of the module's output, summed over all calibration data, is taken. r = 0
// is plain rounding (s = 1), so the result is never worse than that on the data. `duo` divides by the weights' share as
// AutoAWQ does: s = max(x̄^r / (w̄^(1−r) + 1e-4), 1e-4), w̄_j = mean over rows of |W_ij| / max of its group.
// Source: AWQ (arXiv:2306.00978, equation 4) and auto_scale.py; AutoAWQ's quantizer.py for duo. It does not do: the
// search for clipping bounds, which comes after all scaling; folding (fold.ts).

import type { InputStatistics } from './input-statistics.ts';
import type { ScaledWeight } from './smooth.ts';

export interface AwqRequest {
  readonly stats: Pick<InputStatistics, 'absMean'>;
  /** The layers that share the input. */
  readonly weights: readonly ScaledWeight[];
  /** Quantizes and dequantizes a layer's values [rows, K] in its format. */
  roundTrip(name: string, values: Float32Array): Promise<Float32Array>;
  /** Squared error of the module's output with these weights by layer, over ALL calibration batches. */
  moduleError(effective: ReadonlyMap<string, Float32Array>): Promise<number>;
  /** Candidates of r; default 20. */
  readonly grid?: number;
  readonly duo?: boolean;
  /** Inputs that share a maximum in w̄, for duo; the whole row when absent. */
  readonly groupSize?: number;
}

export interface AwqScales {
  /** Divisors of the input, [K]. */
  readonly scales: Float32Array;
  /** r of these scales; 0: plain rounding. */
  readonly ratio: number;
  readonly error: number;
  /** Error of plain rounding. */
  readonly plainError: number;
}

/** The best scales. Of equal errors the smaller r wins. Throws when plain rounding gives no finite error. */
export async function searchAwqScales(request: AwqRequest): Promise<AwqScales> {
  const { stats, grid = 20, duo = false } = request;
  const share = duo ? weightShares(request) : undefined;
  const plain = new Float32Array(stats.absMean.length).fill(1);
  const plainError = await errorOf(plain, request);
  if (!Number.isFinite(plainError)) {
    const names = request.weights.map(({ name }) => name).join(', ');
    throw new Error(`searchAwqScales: the output error of ${names} is ${plainError}`);
  }
  let best: AwqScales = { scales: plain, ratio: 0, error: plainError, plainError };
  for (let i = 1; i < grid; i++) {
    const ratio = i / grid;
    const scales = scalesOf(stats.absMean, ratio, share);
    const error = await errorOf(scales, request);
    if (error < best.error) best = { scales, ratio, error, plainError };
  }
  return best;
}

async function errorOf(scales: Float32Array, { weights, roundTrip, moduleError }: AwqRequest): Promise<number> {
  const effective = new Map<string, Float32Array>();
  for (const { name, values } of weights) {
    const rounded = await roundTrip(name, scaleColumns(values, scales, 'multiply'));
    effective.set(name, scaleColumns(rounded, scales, 'divide'));
  }
  return moduleError(effective);
}

function scalesOf(mean: Float32Array, ratio: number, share: Float64Array | undefined): Float32Array {
  const raw = Float64Array.from(mean, (x, j) =>
    Math.max(x ** ratio / (share ? share[j] ** (1 - ratio) + 1e-4 : 1), 1e-4),
  );
  let [low, high] = [Number.POSITIVE_INFINITY, 0];
  for (const s of raw) {
    low = Math.min(low, s);
    high = Math.max(high, s);
  }
  const centre = Math.sqrt(low * high);
  return Float32Array.from(raw, (s) => s / centre);
}

/** w̄: the mean over all rows of |W_ij| relative to the maximum of its group. */
function weightShares({ weights, stats, groupSize }: AwqRequest): Float64Array {
  const cols = stats.absMean.length;
  const group = groupSize ?? cols;
  const shares = new Float64Array(cols);
  let rows = 0;
  for (const weight of weights) {
    rows += weight.rows;
    for (let from = 0; from < weight.values.length; from += group) {
      const values = weight.values.subarray(from, from + group);
      const largest = values.reduce((m, v) => Math.max(m, Math.abs(v)), 0) + 1e-6;
      for (let j = 0; j < values.length; j++) shares[(from % cols) + j] += Math.abs(values[j]) / largest;
    }
  }
  return shares.map((s) => s / rows);
}

/** Column j of values [rows, K] times scales[j], or divided by it. */
function scaleColumns(values: Float32Array, scales: Float32Array, how: 'multiply' | 'divide'): Float32Array {
  const cols = scales.length;
  const out = new Float32Array(values.length);
  for (let i = 0; i < values.length; i += cols)
    for (let j = 0; j < cols; j++)
      out[i + j] = how === 'multiply' ? values[i + j] * scales[j] : values[i + j] / scales[j];
  return out;
}
