// Optimizer steps, element by element: graph/ops/optimizers.ts has the formulas. Outputs lie on the states' memory.

import { threefry2x32 } from '../../formats/random.ts';
import type { AdamWAttributes, MomentumAttributes, SgdAttributes } from '../../graph/ops/optimizers.ts';
import type { RoundStateAttributes } from '../../graph/ops/round-state.ts';
import { checkIndex, type Kernel, numbers, target } from './kernel.ts';

export const sgd: Kernel<SgdAttributes> = ([weight, gradient, rate], [next], { weightDecay }) => {
  const [w, g, [eta], to] = [numbers(weight), numbers(gradient), numbers(rate), target(next)];
  for (let i = 0; i < to.length; i++) to[i] = w[i] - eta * (g[i] + weightDecay * w[i]);
};

export const sgdMomentum: Kernel<MomentumAttributes> = (
  [weight, momentum, gradient, rate],
  [next, nextMomentum],
  { momentum: mu, nesterov, weightDecay },
) => {
  const [w, m, g, [eta]] = [numbers(weight), numbers(momentum), numbers(gradient), numbers(rate)];
  const [toWeight, toMomentum] = [target(next), target(nextMomentum)];
  for (let i = 0; i < toWeight.length; i++) {
    const slope = g[i] + weightDecay * w[i];
    const moving = mu * m[i] + slope;
    toMomentum[i] = moving;
    toWeight[i] = w[i] - eta * (nesterov ? slope + mu * moving : moving);
  }
};

export const adamw: Kernel<AdamWAttributes> = (
  [weight, first, second, gradient, rate, step, scale],
  [next, nextFirst, nextSecond],
  { beta1, beta2, epsilon, weightDecay },
) => {
  const [w, m, v, g] = [numbers(weight), numbers(first), numbers(second), numbers(gradient)];
  const [[eta], [t], [factor]] = [numbers(rate), numbers(step), scale ? numbers(scale) : [1]];
  checkIndex('adamw', 'step', t, 1, 2 ** 31 - 1);
  const [toWeight, toFirst, toSecond] = [target(next), target(nextFirst), target(nextSecond)];
  const [correction1, correction2] = [1 - beta1 ** t, 1 - beta2 ** t];
  for (let i = 0; i < toWeight.length; i++) {
    const slope = factor * g[i];
    const mean = beta1 * m[i] + (1 - beta1) * slope;
    const square = beta2 * v[i] + (1 - beta2) * slope * slope;
    const change = mean / correction1 / (Math.sqrt(square / correction2) + epsilon);
    toFirst[i] = mean;
    toSecond[i] = square;
    toWeight[i] = w[i] - eta * weightDecay * w[i] - eta * change;
  }
};

export const roundToBf16: Kernel<RoundStateAttributes> = ([weight, step], [next], { seed, stream }) => {
  const [w, [t], to] = [numbers(weight), numbers(step), target(next)];
  const [value, bits, random] = [new Float32Array(1), new Uint32Array(1), new Uint32Array(2)];
  const asBits = new Uint32Array(value.buffer);
  for (let i = 0; i < to.length; i++) {
    if (i % 2 === 0) threefry2x32(seed, stream, i / 2, t, random);
    value[0] = w[i];
    bits[0] = asBits[0] + (random[i % 2] >>> 16);
    asBits[0] = bits[0] & 0xffff0000;
    if (Number.isFinite(w[i])) to[i] = value[0];
  }
};

export const sumSquares: Kernel = (values, [squares]) => {
  const to = target(squares);
  for (const [i, value] of values.entries()) {
    let sum = 0;
    for (const x of numbers(value)) sum += x * x;
    to[i] = sum;
  }
};

/** The result is x itself. */
export const holdUpdates: Kernel = ([x]) => (numbers(x).every((v) => Number.isFinite(v)) ? undefined : 'hold updates');
