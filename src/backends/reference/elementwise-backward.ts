// Gradients of unary and swiglu. All operands of an element are read before its results are written, since
// the first result may lie on an operand's memory.

import type { UnaryAttributes, UnaryKind } from '../../graph/ops/unary.ts';
import { sigmoid } from './elementwise.ts';
import { erfc } from './erf.ts';
import { type Kernel, numbers, target } from './kernel.ts';

const siluSlope = (x: number) => sigmoid(x) * (1 + x * (1 - sigmoid(x)));

function geluTanhSlope(x: number): number {
  const c = Math.sqrt(2 / Math.PI);
  const t = Math.tanh(c * (x + 0.044715 * x ** 3));
  return (1 + t) / 2 + (x / 2) * (1 - t * t) * c * (1 + 3 * 0.044715 * x * x);
}

const slopes: Readonly<Record<UnaryKind, (x: number) => number>> = {
  negate: () => -1,
  exp: Math.exp,
  log: (x) => 1 / x,
  sqrt: (x) => 0.5 / Math.sqrt(x),
  rsqrt: (x) => -0.5 / (x * Math.sqrt(x)),
  square: (x) => 2 * x,
  sigmoid: (x) => sigmoid(x) * (1 - sigmoid(x)),
  tanh: (x) => 1 - Math.tanh(x) ** 2,
  relu: (x) => (x > 0 ? 1 : 0),
  silu: siluSlope,
  gelu: (x) => erfc(-x / Math.SQRT2) / 2 + (x * Math.exp((-x * x) / 2)) / Math.sqrt(2 * Math.PI),
  geluTanh: geluTanhSlope,
};

export const unaryBackward: Kernel<UnaryAttributes> = ([x, dy], [dx], { kind }) => {
  const [from, g, to, slope] = [numbers(x), numbers(dy), target(dx), slopes[kind]];
  for (let i = 0; i < to.length; i++) to[i] = slope(from[i]) * g[i];
};

export const swigluBackward: Kernel = ([gate, up, dy], [dgate, dup]) => {
  const [gates, ups, incoming] = [numbers(gate), numbers(up), numbers(dy)];
  const [toGate, toUp] = [target(dgate), target(dup)];
  for (let i = 0; i < toUp.length; i++) {
    const [x, u, g] = [gates[i], ups[i], incoming[i]];
    toGate[i] = siluSlope(x) * u * g;
    toUp[i] = x * sigmoid(x) * g;
  }
};
