// Negative log-likelihood of targets, with the last projection fused so that N×V logits are never stored.
//
//   nll[n] = log Σ_v e^(hidden[n]·weight[v]) − hidden[n]·weight[targets[n]]   in nats; 0 where targets[n] < 0

import { applyOp } from '../apply.ts';
import { denseOrPackedShape, denseShape, expectShape, indexShape } from '../check.ts';
import type { OpDefinition, Value } from '../graph.ts';
import { f32 } from '../value-type.ts';

/** A target of V or more is an error when the graph runs. */
export const crossEntropyOp: OpDefinition<Record<string, never>> = {
  name: 'crossEntropy',
  infer([hidden, weight, targets]) {
    const [N, C] = denseShape('crossEntropy', 'hidden', hidden, 2);
    const weightShape = denseOrPackedShape('crossEntropy', 'weight', weight, 2);
    expectShape('crossEntropy', 'weight', weightShape, [weightShape[0], C], 'hidden and weight must share C');
    expectShape(
      'crossEntropy',
      'targets',
      indexShape('crossEntropy', 'targets', targets),
      [N],
      'give one target a row',
    );
    return [f32([N])];
  },
  flops([hidden, weight]) {
    const [N, C] = hidden.shape;
    return 2 * N * C * weight.shape[0];
  },
  gradient: ({ inputs: [hidden, weight, targets] }, [g], [, weightGradient]) =>
    g ? applyOp(crossEntropyBackwardOp, [hidden, weight, targets, g], { weightGradient }) : [],
};

export interface WeightGradientAttributes {
  /** The weight's gradient is the second output; without it there is one output. */
  weightGradient: boolean;
}

/**
 * hidden [N, C], weight [V, C] (dense or packed), targets i32 [N], dnll [N] → dhidden [N, C] and, where asked for,
 * dweight [V, C]. Logits are computed again row by row; N×V is never stored.
 */
export const crossEntropyBackwardOp: OpDefinition<WeightGradientAttributes> = {
  name: 'crossEntropyBackward',
  infer([hidden, weight, targets, dnll], { weightGradient }) {
    const [nll] = crossEntropyOp.infer([hidden, weight, targets], {});
    const found = denseShape('crossEntropyBackward', 'dnll', dnll);
    expectShape('crossEntropyBackward', 'dnll', found, nll.shape, 'give one gradient a row');
    return weightGradient ? [f32(hidden.shape), f32(weight.shape)] : [f32(hidden.shape)];
  },
  flops: ([hidden, weight], { weightGradient }) =>
    (weightGradient ? 6 : 4) * hidden.shape[0] * hidden.shape[1] * weight.shape[0],
};

/** hidden [N, C], weight [V, C] (dense or packed), targets i32 [N] → nll [N]. */
export function crossEntropy(hidden: Value, weight: Value, targets: Value): Value {
  return applyOp(crossEntropyOp, [hidden, weight, targets], {})[0];
}
