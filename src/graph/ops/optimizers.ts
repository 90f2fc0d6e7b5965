// Optimizer steps: states that are replaced in place by their next values.
//
//   sgd          w ← w − η (g + λw)
//   sgdMomentum  m ← μm + (g + λw);  w ← w − η m, with nesterov w ← w − η (g + λw + μm)
//   adamw        m ← β₁m + (1−β₁)g;  v ← β₂v + (1−β₂)g²;
//                w ← w − ηλw − η · (m / (1−β₁ᵗ)) / (√(v / (1−β₂ᵗ)) + ε);  with a factor f: f · g in place of g
//
// Sources: Sutskever et al. 2013 (momentum in the form of PyTorch, without damping); Kingma and Ba 2015
// (arXiv:1412.6980), algorithm 1; Loshchilov and Hutter 2019 (arXiv:1711.05101), algorithm 2: in adamw the decay is
// decoupled from the gradient, in sgd it is added to it. η and t are operands, so that a schedule changes them without
// compiling again. In a run that met a data error (an id outside the vocabulary) nothing is updated.

import { printShape } from '../../tensor/shape.ts';
import { applyOp } from '../apply.ts';
import { denseShape, expectShape, indexShape, shapeError } from '../check.ts';
import type { OpDefinition, Value, ValueType } from '../graph.ts';
import { f32 } from '../value-type.ts';

export interface SgdAttributes {
  /** λ */
  weightDecay: number;
}

export interface MomentumAttributes extends SgdAttributes {
  /** μ */
  momentum: number;
  nesterov: boolean;
}

export interface AdamWAttributes extends SgdAttributes {
  beta1: number;
  beta2: number;
  epsilon: number;
}

const trained = { updates: true, noGradient: 'differentiate before the updates are appended' } as const;

/** weight (state), gradient, learning rate f32 [1] → weight. */
export const sgdOp: OpDefinition<SgdAttributes> = {
  name: 'sgd',
  inPlace: { 0: 0 },
  ...trained,
  infer: ([weight, gradient, rate], attributes) => stateTypes('sgd', [weight], gradient, rate, attributes),
};

/** weight, momentum (states), gradient, learning rate f32 [1] → weight, momentum. */
export const sgdMomentumOp: OpDefinition<MomentumAttributes> = {
  name: 'sgdMomentum',
  inPlace: { 0: 0, 1: 1 },
  ...trained,
  infer: ([weight, momentum, gradient, rate], attributes) =>
    stateTypes('sgdMomentum', [weight, momentum], gradient, rate, attributes),
};

/** weight, m, v (states), gradient, learning rate f32 [1], t i32 [1] from 1, (factor, one f32) → weight, m, v. */
export const adamwOp: OpDefinition<AdamWAttributes> = {
  name: 'adamw',
  inPlace: { 0: 0, 1: 1, 2: 2 },
  ...trained,
  infer([weight, m, v, gradient, rate, step, factor], attributes) {
    expectShape('adamw', 'step', indexShape('adamw', 'step', step), [1], 'pass one number');
    if (factor) {
      const shape = denseShape('adamw', 'factor', factor);
      expectShape('adamw', 'factor', shape, shape.length === 0 ? [] : [1], 'pass one number');
    }
    return stateTypes('adamw', [weight, m, v], gradient, rate, attributes);
  },
};

const labels = ['weight', 'the first moment', 'the second moment'];

/** The types of the states, all of the weight's shape; checks the other operands and the constants too. */
function stateTypes(
  op: string,
  states: readonly ValueType[],
  gradient: ValueType,
  rate: ValueType,
  attributes: object,
): ValueType[] {
  const shape = denseShape(op, 'weight', states[0]);
  states.forEach((state, i) => {
    expectShape(op, labels[i], denseShape(op, labels[i], state), shape, 'states have the shape of the weight');
  });
  expectShape(op, 'gradient', denseShape(op, 'gradient', gradient), shape, 'the gradient has the shape of the weight');
  expectShape(op, 'learning rate', denseShape(op, 'learning rate', rate), [1], 'pass one number');
  for (const [name, value] of Object.entries(attributes)) {
    const below = { momentum: 1, beta1: 1, beta2: 1 }[name] ?? Infinity;
    if (typeof value === 'boolean' || (value >= 0 && value < below)) continue;
    const range = below === 1 ? '0 … 1, without 1' : 'a finite number from 0';
    throw shapeError(op, `bad ${name} for a weight ${printShape(shape)}`, `${value}`, range, `correct ${name}`);
  }
  return states.map(() => f32(shape));
}

/** One step of gradient descent; returns the new weight. */
export const sgd = (weight: Value, gradient: Value, learningRate: Value, attributes: SgdAttributes): Value =>
  applyOp(sgdOp, [weight, gradient, learningRate], attributes)[0];

/** One step with momentum; returns the new weight. */
export const sgdMomentum = (
  weight: Value,
  momentum: Value,
  gradient: Value,
  learningRate: Value,
  attributes: MomentumAttributes,
): Value => applyOp(sgdMomentumOp, [weight, momentum, gradient, learningRate], attributes)[0];

/** One step of AdamW; returns the new weight. `step` counts from 1; `factor`, one number, scales the gradient. */
export const adamw = (
  weight: Value,
  moments: { m: Value; v: Value },
  gradient: Value,
  { learningRate, step, factor }: { learningRate: Value; step: Value; factor?: Value },
  attributes: AdamWAttributes,
): Value => {
  const operands = [weight, moments.m, moments.v, gradient, learningRate, step];
  return applyOp(adamwOp, factor ? [...operands, factor] : operands, attributes)[0];
};
