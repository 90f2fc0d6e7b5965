// Weights that are kept in bf16: after an update a state is rounded stochastically, in place.
//
//   w ← the neighbour of w in bf16 above with probability (w − below) / (above − below), else the one below
//
// as bits: (bits(w) + r) with the low 16 bits cleared, r uniform in 0 … 2^16 − 1 from the counter-based generator keyed by
// (seed, stream), counted by the step and indexed by element (its highest 16 bits). The mean is w, so updates smaller
// than the spacing are not lost (Zamirai et al. 2020, arXiv:2010.06192). The state stays f32 memory. In a run that met a
// data error nothing is rounded.

import { applyOp } from '../apply.ts';
import { denseShape, expectShape, indexShape } from '../check.ts';
import type { OpDefinition, Value } from '../graph.ts';
import { f32 } from '../value-type.ts';

export interface RoundStateAttributes {
  seed: number;
  stream: number;
}

/** weight (state), step i32 [1] → weight. */
export const roundToBf16Op: OpDefinition<RoundStateAttributes> = {
  name: 'roundToBf16',
  inPlace: { 0: 0 },
  updates: true,
  noGradient: 'differentiate before the weights are rounded',
  infer([weight, step]) {
    expectShape('roundToBf16', 'step', indexShape('roundToBf16', 'step', step), [1], 'pass one number');
    return [f32(denseShape('roundToBf16', 'weight', weight))];
  },
};

/** The weight (a state, or the result of its update) rounded to bf16 values; finite numbers stay finite but for the largest binade. */
export const roundToBf16 = (weight: Value, step: Value, attributes: RoundStateAttributes): Value =>
  applyOp(roundToBf16Op, [weight, step], attributes)[0];
