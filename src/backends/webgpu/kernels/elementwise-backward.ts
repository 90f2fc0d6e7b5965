// Gradients of unary and swiglu.
//
// Thread map: one thread for each element. The first result may lie on the memory of any operand: a thread reads its
// element of all of them before it writes. No workgroup memory, no features.

import type { UnaryAttributes, UnaryKind } from '../../../graph/ops/unary.ts';
import { elementCount } from '../../../tensor/shape.ts';
import { forEachItem } from '../entry.ts';
import { dense, type KernelTable, type Names, type OpKernel, read, write } from '../kernel.ts';
import { mathSource } from '../wgsl/math.ts';
import { slopesSource } from '../wgsl/slopes.ts';

/** kind′(x) · g */
const gradients: Readonly<Record<UnaryKind, string>> = {
  negate: '-g',
  exp: 'expOf(x) * g',
  log: 'g / x',
  sqrt: '0.5 * inverseSqrt(x) * g',
  rsqrt: '-0.5 * inverseSqrt(x) / x * g',
  square: '(x + x) * g',
  sigmoid: 'sigmoidSlope(x) * g',
  tanh: 'tanhSlope(x) * g',
  relu: 'select(0.0, g, x > 0.0)',
  silu: 'siluSlope(x) * g',
  gelu: 'geluSlope(x) * g',
  geluTanh: 'geluTanhSlope(x) * g',
};

const unaryBackward: OpKernel = {
  encode({ node, inputs, outputs }) {
    const { kind } = node.attributes as unknown as UnaryAttributes;
    const [x, dy, dx] = [dense(inputs, 0), dense(inputs, 1), dense(outputs, 0)];
    const body = (n: Names) => `let x = ${n.source}[i];
  let g = ${n.dy}[i];
  ${n.dx}[i] = ${gradients[kind]};`;
    return [
      {
        bindings: { source: read(x), dy: read(dy), dx: write(dx) },
        ...forEachItem(elementCount(dx.shape), body, mathSource + slopesSource),
      },
    ];
  },
};

const swigluBackward: OpKernel = {
  encode({ inputs, outputs }) {
    const [gate, up, dy] = inputs.map((_, i) => dense(inputs, i));
    const [dgate, dup] = [dense(outputs, 0), dense(outputs, 1)];
    const body = (n: Names) => `let x = ${n.gate}[i];
  let up = ${n.factor}[i];
  let g = ${n.dy}[i];
  let s = onOff(x);
  ${n.dgate}[i] = s.x * (1.0 + x * s.y) * up * g;
  ${n.dup}[i] = x * s.x * g;`;
    return [
      {
        bindings: { gate: read(gate), factor: read(up), dy: read(dy), dgate: write(dgate), dup: write(dup) },
        ...forEachItem(elementCount(dup.shape), body, mathSource + slopesSource),
      },
    ];
  },
};

export const elementwiseBackwardKernels: KernelTable = { unaryBackward, swigluBackward };
