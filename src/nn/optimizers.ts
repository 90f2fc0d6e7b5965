// Optimizers: the updates of a list of weights, appended to the graph that computes their gradients.
//
// Problem: a training step should replay as it was compiled. Method: weights and moments are states that ops replace in
// place (graph/ops/optimizers.ts has the formulas); what a schedule changes, learning rate and step, are values of the
// graph. Append the updates last: the memory plan refuses a graph that reads a weight as it was before its update.
// It does not do: schedules, and moments in low precision.

import { userError } from '../errors.ts';
import type { Value } from '../graph/graph.ts';
import { affine } from '../graph/ops/affine.ts';
import { add, div, mul } from '../graph/ops/arithmetic.ts';
import { adamw, sgd, sgdMomentum } from '../graph/ops/optimizers.ts';
import { sum } from '../graph/ops/reduce.ts';
import { relu, sqrt, square } from '../graph/ops/unary.ts';
import type { GraphBuilder } from '../graph/trace.ts';
import { tensorF32 } from '../tensor/tensor.ts';

/** A weight, which is a state of the graph, and its gradient. */
export interface Trained {
  /** Under which its moments are states too. */
  readonly name: string;
  readonly weight: Value;
  readonly gradient: Value;
  /** Takes the place of the optimizer's: 0 for norms and biases. */
  readonly weightDecay?: number;
}

export interface SgdOptions {
  readonly kind: 'sgd';
  /** 0 when absent: no state besides the weight. */
  readonly momentum?: number;
  readonly nesterov?: boolean;
  /** Added to the gradient, times the weight; 0 when absent. */
  readonly weightDecay?: number;
}

export interface AdamWOptions {
  readonly kind: 'adamw';
  /** 0.9 when absent. */
  readonly beta1?: number;
  /** 0.999 when absent. */
  readonly beta2?: number;
  /** 1e-8 when absent. */
  readonly epsilon?: number;
  /** Decoupled: the weight shrinks by learning rate × this; 0.01 when absent. */
  readonly weightDecay?: number;
}

export type OptimizerOptions = SgdOptions | AdamWOptions;

export interface Schedule {
  /** f32 [1] */
  readonly learningRate: Value;
  /** i32 [1], from 1; adamw only. */
  readonly step: Value;
  /** One number that scales all gradients, such as clipFactor gives it. */
  readonly factor?: Value;
}

/** Names of the states that an optimizer keeps for a weight. */
export const momentNames = (name: string) => ({ m: `${name}/m`, v: `${name}/v` });

/**
 * Appends one optimizer step and returns the new weights. Moments are declared as states of the weights' shapes, zero at
 * first.
 *
 * @example appendUpdates(g, [{ name: 'w', weight, gradient }], { kind: 'adamw' }, { learningRate, step })
 */
export function appendUpdates(
  g: GraphBuilder,
  trained: readonly Trained[],
  options: OptimizerOptions,
  { learningRate, step, factor }: Schedule,
): Value[] {
  const isScaled = factor !== undefined && options.kind !== 'adamw';
  const gradients = trained.map(({ gradient }) => (isScaled ? mul(gradient, factor) : gradient));
  // updates stand one behind the other, so that a backend can join them
  return g.scope('update', () =>
    trained.map(({ name, weight, weightDecay }, i) => {
      const gradient = gradients[i];
      const names = momentNames(name);
      const moment = (label: string) => g.state(label, weight.type);
      if (options.kind === 'adamw') {
        const { beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8 } = options;
        const constants = { beta1, beta2, epsilon, weightDecay: weightDecay ?? options.weightDecay ?? 0.01 };
        const moments = { m: moment(names.m), v: moment(names.v) };
        return adamw(weight, moments, gradient, { learningRate, step, factor }, constants);
      }
      const { momentum = 0, nesterov = false } = options;
      const decay = weightDecay ?? options.weightDecay ?? 0;
      if (nesterov && momentum === 0) throw nesterovWithoutMomentum();
      if (momentum === 0) return sgd(weight, gradient, learningRate, { weightDecay: decay });
      const constants = { momentum, nesterov, weightDecay: decay };
      return sgdMomentum(weight, moment(names.m), gradient, learningRate, constants);
    }),
  );
}

/**
 * sum (state) + x → sum for each sum, for gradients over several batches: sgd with the learning rate −1, which rounds once
 * as a plain addition does.
 */
export function accumulate(g: GraphBuilder, sums: readonly Value[], xs: readonly Value[]): Value[] {
  const rate = g.constant(tensorF32([1], Float32Array.of(-1)));
  return sums.map((sum, i) => sgd(sum, xs[i], rate, { weightDecay: 0 }));
}

/** Zero in place of what states hold, once it is read: their finite values minus themselves. */
export function clear(g: GraphBuilder, states: readonly Value[]): Value[] {
  const rate = g.constant(tensorF32([1], Float32Array.of(1)));
  return states.map((state) => sgd(state, state, rate, { weightDecay: 0 }));
}

/**
 * Gradients scaled by min(1, maxNorm / norm), with norm = √Σ g² over all of them, and that norm (f32, no dimensions).
 * A gradient that is not a number makes all of them so.
 */
export function clipByGlobalNorm(
  g: GraphBuilder,
  gradients: readonly Value[],
  maxNorm: number,
): { gradients: Value[]; norm: Value } {
  return g.scope('clip', () => {
    const norm = globalNorm(gradients);
    const factor = clipFactor(g, norm, maxNorm);
    return { gradients: gradients.map((gradient) => mul(gradient, factor)), norm };
  });
}

/** min(1, maxNorm / norm); not a number when the norm is none. */
export function clipFactor(g: GraphBuilder, norm: Value, maxNorm: number): Value {
  // 1 + relu(r − 1) is max(1, r) and keeps a NaN.
  const excess = affine(relu(affine(norm, { scale: 1 / maxNorm, offset: -1 })), { offset: 1 });
  return div(g.constant(tensorF32([], Float32Array.of(1))), excess);
}

/** √Σ x² over all elements of all values. */
export const globalNorm = (values: readonly Value[]): Value =>
  sqrt(values.map(sumOfSquares).reduce((total, part) => add(total, part)));

/** Σ x² over all elements. */
export const sumOfSquares = (v: Value): Value =>
  // Rows first: one number is the work of one thread.
  sum(v.type.shape.length > 1 ? sum(square(v), { axes: [-1] }) : square(v));

function nesterovWithoutMomentum() {
  return userError({
    code: 'optimizer-nesterov',
    op: 'sgd',
    problem: 'nesterov needs a momentum',
    got: 0,
    expected: 'a number between 0 and 1',
    fix: 'set momentum, 0.9 for example',
  });
}
