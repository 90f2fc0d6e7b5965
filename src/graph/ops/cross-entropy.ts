// Negative log-likelihood of targets, with the last projection fused so that N×V logits are never stored.
//
//   nll[n] = log Σ_v e^(hidden[n]·weight[v]) − hidden[n]·weight[targets[n]]   in nats; 0 where targets[n] < 0

import { applyOp } from '../apply.ts';
import { denseOrPackedShape, denseShape, expectShape, indexShape } from '../check.ts';
import type { OpDefinition, Value, ValueType } from '../graph.ts';
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
  gradient: ({ inputs: [hidden, weight, targets], outputs: [nll] }, [g], [, weightGradient]) =>
    g ? applyOp(crossEntropyBackwardOp, [hidden, weight, targets, nll, g], { weightGradient }) : [],
};

export interface WeightGradientAttributes {
  /** The weight's gradient is the second output; without it there is one output. */
  weightGradient: boolean;
}

/**
 * hidden [N, C], weight [V, C] (dense or packed), targets i32 [N], nll [N], dnll [N] → dhidden [N, C] and, where asked
 * for, dweight [V, C]. Logits are computed again in pieces; N×V is never stored. The normalizer of a row needs no pass
 * over the vocabulary: it is nll[n] + hidden[n]·weight[targets[n]].
 */
export const crossEntropyBackwardOp: OpDefinition<WeightGradientAttributes> = {
  name: 'crossEntropyBackward',
  infer([hidden, weight, targets, nll, dnll], { weightGradient }) {
    const [{ shape }] = crossEntropyOp.infer([hidden, weight, targets], {});
    const rows = (label: string, v: ValueType) => denseShape('crossEntropyBackward', label, v);
    expectShape('crossEntropyBackward', 'nll', rows('nll', nll), shape, 'pass the result of crossEntropy');
    expectShape('crossEntropyBackward', 'dnll', rows('dnll', dnll), shape, 'give one gradient a row');
    return weightGradient ? [f32(hidden.shape), f32(weight.shape)] : [f32(hidden.shape)];
  },
  flops: ([hidden, weight], { weightGradient }) =>
    (weightGradient ? 6 : 4) * hidden.shape[0] * hidden.shape[1] * weight.shape[0],
};

/** hidden [N, C], weight [V, C] (dense or packed), targets i32 [N] → nll [N]. */
export function crossEntropy(hidden: Value, weight: Value, targets: Value): Value {
  return applyOp(crossEntropyOp, [hidden, weight, targets], {})[0];
}
