// Moves the scales of layers' inputs into the weights for good: what comes out is an ordinary checkpoint.
//
// Method: with scales s of a subset's input (models/subsets.ts)
//   producer   gain_j (and bias_j) of the norm, or row j (and bias_j) of the layer before, divided by s_j
//   consumers  column j of every layer that reads the input, quantized or not, multiplied by s_j
// A tensor can be both (up_proj: columns behind the norm, rows before down_proj); all its factors are applied in float64
// and the result is rounded once to f32.
// It does not do: subsets without a producer, which are refused; quantization.

import { userError } from '../errors.ts';
import { denseF32 } from '../models/stack.ts';
import type { Subset } from '../models/subsets.ts';
import type { ModelWeights } from '../models/weights.ts';
import { tensorF32 } from '../tensor/tensor.ts';

/** Divisors of the input of a subset, [K]. */
export interface Fold {
  readonly subset: Subset;
  readonly scales: Float32Array;
}

/** The factors of one tensor [N, K] (a vector: K = 1). */
export interface TensorFold {
  /** Column j is multiplied by each columns[…][j]. */
  readonly columns: Float32Array[];
  /** Row i is divided by each rows[…][i]. */
  readonly rows: Float32Array[];
}

/**
 * What becomes of every tensor, by name; biases are listed whether the model has them or not. Throws a user error for a
 * subset without a producer and for scales that are not positive numbers, one for each input.
 */
export function foldPlan(folds: readonly Fold[]): Map<string, TensorFold> {
  const plan = new Map<string, TensorFold>();
  const of = (tensor: string): TensorFold => {
    const known = plan.get(tensor) ?? { columns: [], rows: [] };
    plan.set(tensor, known);
    return known;
  };
  for (const { subset, scales } of folds) {
    checkFold(subset, scales);
    const producer = subset.producer?.name;
    for (const part of ['weight', 'bias']) of(`${producer}.${part}`).rows.push(scales);
    for (const name of [...subset.layers, ...subset.others]) of(`${name}.weight`).columns.push(scales);
  }
  return plan;
}

/** values [N, K] with the factors applied; K = `cols`, 1 for a norm or a bias. */
export function foldTensor(values: Float32Array, cols: number, { columns, rows }: TensorFold): Float32Array {
  const factors = Float64Array.from({ length: cols }, (_, j) => columns.reduce((product, s) => product * s[j], 1));
  const out = new Float32Array(values.length);
  for (let r = 0; r < values.length / cols; r++) {
    const divisor = rows.reduce((product, s) => product * s[r], 1);
    for (let j = 0; j < cols; j++) out[r * cols + j] = (values[r * cols + j] * factors[j]) / divisor;
  }
  return out;
}

/**
 * The model with the scales folded in, tensor by tensor as they are loaded; those that change are dense f32.
 *
 * @example foldModel(weights, subsets.map((subset) => ({ subset, scales: smoothScales(…) })))
 */
export function foldModel(weights: ModelWeights, folds: readonly Fold[]): ModelWeights {
  const plan = foldPlan(folds);
  const folding =
    (read: ModelWeights['load']): ModelWeights['load'] =>
    async (name) => {
      const tensor = await read(name);
      const fold = plan.get(name);
      if (!fold) return tensor;
      const cols = tensor.shape.length === 1 ? 1 : tensor.shape[tensor.shape.length - 1];
      return tensorF32(tensor.shape, foldTensor(denseF32(tensor), cols, fold));
    };
  return {
    ...weights,
    format: (name) => (plan.has(name) ? { kind: 'float', name: 'f32' } : weights.format(name)),
    load: folding(weights.load),
    loadUnchecked: folding(weights.loadUnchecked),
  };
}

function checkFold({ layers, producer, fixed, width }: Subset, scales: Float32Array): void {
  const refuse = (problem: string, got?: string | number, expected?: string) => {
    const fix = 'leave this subset unscaled';
    throw userError({ code: 'fold', op: 'fold scales', problem, got, expected, tensor: layers[0], fix });
  };
  if (!producer) refuse(`nothing before the layer can take its scales: ${fixed}`);
  if (scales.length !== width) refuse('one scale for each input is needed', scales.length, `${width}`);
  const bad = scales.findIndex((s) => !(s > 0 && Number.isFinite(s)));
  if (bad >= 0) refuse(`the scale of input ${bad} is no positive number`, scales[bad]);
}
