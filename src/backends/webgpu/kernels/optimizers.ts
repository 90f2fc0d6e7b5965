// Optimizer steps in place: sgd, sgdMomentum, adamw.
//
// Thread map: one thread for each weight; each state is one binding that is read and then written. No workgroup memory,
// no features. After a data error anywhere in the run nothing is written. Factors such as 1 − β are rounded once, from
// float64.

import type { AdamWAttributes, MomentumAttributes, SgdAttributes } from '../../../graph/ops/optimizers.ts';
import { elementCount } from '../../../tensor/shape.ts';
import { stepError } from '../../data-error-codes.ts';
import { forEachItem } from '../entry.ts';
import { dense, type KernelTable, type Names, type OpKernel, read, write } from '../kernel.ts';
import { mathSource } from '../wgsl/math.ts';

const sgd: OpKernel = {
  encode({ node, inputs, outputs }) {
    const { weightDecay } = node.attributes as unknown as SgdAttributes;
    const [gradient, rate, weight] = [dense(inputs, 1), dense(inputs, 2), dense(outputs, 0)];
    const body = (n: Names) => `if (failed()) { return; }
  let w = ${n.weight}[i];
  ${n.weight}[i] = w - ${n.rate}[0] * (${n.gradient}[i] + words.decay * w);`;
    return [
      {
        bindings: { weight: write(weight), gradient: read(gradient), rate: read(rate) },
        words: { decay: { f32: weightDecay } },
        reports: true,
        ...forEachItem(elementCount(weight.shape), body),
      },
    ];
  },
};

const sgdMomentum: OpKernel = {
  encode({ node, inputs, outputs }) {
    const { weightDecay, momentum: factor, nesterov } = node.attributes as unknown as MomentumAttributes;
    const [gradient, rate] = [dense(inputs, 2), dense(inputs, 3)];
    const [weight, momentum] = [dense(outputs, 0), dense(outputs, 1)];
    const body = (n: Names) => `if (failed()) { return; }
  let w = ${n.weight}[i];
  let slope = ${n.gradient}[i] + words.decay * w;
  let moving = words.factor * ${n.momentum}[i] + slope;
  ${n.momentum}[i] = moving;
  ${n.weight}[i] = w - ${n.rate}[0] * ${nesterov ? '(slope + words.factor * moving)' : 'moving'};`;
    return [
      {
        bindings: { weight: write(weight), momentum: write(momentum), gradient: read(gradient), rate: read(rate) },
        words: { decay: { f32: weightDecay }, factor: { f32: factor } },
        reports: true,
        ...forEachItem(elementCount(weight.shape), body),
      },
    ];
  },
};

// 1 − βᵗ = −(e^u − 1) with u = t ln β: by its series near 0, where the difference would lose digits.
const correctionSource = `${mathSource}
fn correction(step: f32, logBeta: f32) -> f32 {
  let u = step * logBeta;
  var series = 1.0;
  for (var j = 9.0; j > 1.0; j -= 1.0) { series = 1.0 + series * u / j; }
  return select(1.0 - expOf(u), -u * series, u > -0.5);
}
`;

const adamw: OpKernel = {
  encode({ node, inputs, outputs }) {
    const { beta1, beta2, epsilon, weightDecay } = node.attributes as unknown as AdamWAttributes;
    const [gradient, rate, step] = [dense(inputs, 3), dense(inputs, 4), dense(inputs, 5)];
    const [weight, first, second] = outputs.map((_, i) => dense(outputs, i));
    // β = 0 has no logarithm; e^−1000 is 0 as well.
    const logBeta = (beta: number) => Math.max(-1000, Math.log(beta));
    const body = (n: Names) => `let t = ${n.step}[0];
  if (t < 1) { report(${stepError}u, t); }
  if (failed()) { return; }
  let g = ${n.gradient}[i];
  let mean = words.beta1 * ${n.first}[i] + words.rest1 * g;
  let square = words.beta2 * ${n.second}[i] + words.rest2 * g * g;
  ${n.first}[i] = mean;
  ${n.second}[i] = square;
  let scaled = mean / correction(f32(t), words.logBeta1);
  let change = scaled / (sqrt(square / correction(f32(t), words.logBeta2)) + words.epsilon);
  let w = ${n.weight}[i];
  ${n.weight}[i] = w - ${n.rate}[0] * words.decay * w - ${n.rate}[0] * change;`;
    return [
      {
        bindings: {
          weight: write(weight),
          first: write(first),
          second: write(second),
          gradient: read(gradient),
          rate: read(rate),
          step: read(step),
        },
        words: {
          beta1: { f32: beta1 },
          rest1: { f32: 1 - beta1 },
          beta2: { f32: beta2 },
          rest2: { f32: 1 - beta2 },
          logBeta1: { f32: logBeta(beta1) },
          logBeta2: { f32: logBeta(beta2) },
          epsilon: { f32: epsilon },
          decay: { f32: weightDecay },
        },
        reports: true,
        ...forEachItem(elementCount(weight.shape), body, correctionSource),
      },
    ];
  },
};

export const optimizerKernels: KernelTable = { sgd, sgdMomentum, adamw };
