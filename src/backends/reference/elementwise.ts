// add, sub, mul, div, unary, affine, swiglu. Outputs may lie on an input's memory: each element is read before its
// place is written.

import type { AffineAttributes } from '../../graph/ops/affine.ts';
import type { UnaryAttributes, UnaryKind } from '../../graph/ops/unary.ts';
import type { Shape } from '../../tensor/shape.ts';
import { erfc } from './erf.ts';
import { type Kernel, numbers, target } from './kernel.ts';

/** For each element of `shape`, the element of the operand that broadcasting puts there. */
export function broadcastIndex(operand: Shape, shape: Shape): (i: number) => number {
  const lead = shape.length - operand.length;
  return (i) => {
    let index = 0;
    let stride = 1;
    for (let d = shape.length - 1; d >= lead; d--) {
      const size = operand[d - lead];
      if (size > 1) index += (i % shape[d]) * stride;
      stride *= size;
      i = Math.floor(i / shape[d]);
    }
    return index;
  };
}

const arithmetic =
  (f: (a: number, b: number) => number): Kernel =>
  ([a, b], [y]) => {
    const [x0, x1, to] = [numbers(a), numbers(b), target(y)];
    const [at0, at1] = [broadcastIndex(a.shape, y.shape), broadcastIndex(b.shape, y.shape)];
    for (let i = 0; i < to.length; i++) to[i] = f(x0[at0(i)], x1[at1(i)]);
  };

export const add = arithmetic((a, b) => a + b);
export const sub = arithmetic((a, b) => a - b);
export const mul = arithmetic((a, b) => a * b);
export const div = arithmetic((a, b) => a / b);

export const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));
// x · sigmoid(x) is 0 · ∞ free: e^−x overflows to infinity for very negative x, and x / ∞ is 0.
const silu = (x: number) => x / (1 + Math.exp(-x));

const functions: Readonly<Record<UnaryKind, (x: number) => number>> = {
  negate: (x) => -x,
  exp: Math.exp,
  log: Math.log,
  sqrt: Math.sqrt,
  rsqrt: (x) => 1 / Math.sqrt(x),
  square: (x) => x * x,
  sigmoid,
  tanh: Math.tanh,
  relu: (x) => Math.max(x, 0),
  silu,
  gelu: (x) => (x / 2) * erfc(-x / Math.SQRT2),
  geluTanh: (x) => (x / 2) * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))),
};

export const unary: Kernel<UnaryAttributes> = ([x], [y], { kind }) => {
  const [from, to, f] = [numbers(x), target(y), functions[kind]];
  for (let i = 0; i < to.length; i++) to[i] = f(from[i]);
};

export const affine: Kernel<AffineAttributes> = ([x], [y], { scale, offset }) => {
  const [from, to] = [numbers(x), target(y)];
  for (let i = 0; i < to.length; i++) to[i] = from[i] * scale + offset;
};

export const swiglu: Kernel = ([gate, up], [y]) => {
  const [g, u, to] = [numbers(gate), numbers(up), target(y)];
  for (let i = 0; i < to.length; i++) to[i] = silu(g[i]) * u[i];
};
