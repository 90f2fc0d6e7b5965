// Elementwise ops: unary functions, affine, swiglu and arithmetic with broadcasting.
//
// Thread map: one thread for each element of the result; operands that are stretched are found through their merged
// dimensions. An output may lie on an operand's memory. No workgroup memory, no features.

import type { AffineAttributes } from '../../../graph/ops/affine.ts';
import type { ArithmeticName } from '../../../graph/ops/arithmetic.ts';
import type { UnaryAttributes, UnaryKind } from '../../../graph/ops/unary.ts';
import { elementCount } from '../../../tensor/shape.ts';
import { broadcastStrides, mergeDimensions } from '../../dimensions.ts';
import { forEachItem } from '../entry.ts';
import { dense, type KernelTable, type Names, type OpKernel, read, write } from '../kernel.ts';
import { mathSource } from '../wgsl/math.ts';
import { offsetStatements } from '../wgsl/offsets.ts';

const functions: Readonly<Record<UnaryKind, string>> = {
  negate: '-x',
  exp: 'expOf(x)',
  log: 'logOf(x)',
  sqrt: 'sqrt(x)',
  rsqrt: 'inverseSqrt(x)',
  square: 'x * x',
  sigmoid: 'sigmoidOf(x)',
  tanh: 'tanhOf(x)',
  relu: 'select(x, 0.0, x < 0.0)',
  silu: 'siluOf(x)',
  gelu: 'geluOf(x)',
  geluTanh: 'geluTanhOf(x)',
};

const unary: OpKernel = {
  encode({ node, inputs, outputs }) {
    const { kind } = node.attributes as unknown as UnaryAttributes;
    const [x, y] = [dense(inputs, 0), dense(outputs, 0)];
    const body = (n: Names) => `let x = ${n.source}[i];
  ${n.y}[i] = ${functions[kind]};`;
    return [{ bindings: { source: read(x), y: write(y) }, ...forEachItem(elementCount(y.shape), body, mathSource) }];
  },
};

const affine: OpKernel = {
  encode({ node, inputs, outputs }) {
    const { scale, offset } = node.attributes as unknown as AffineAttributes;
    const [x, y] = [dense(inputs, 0), dense(outputs, 0)];
    return [
      {
        bindings: { x: read(x), y: write(y) },
        words: { scale: { f32: scale }, offset: { f32: offset } },
        ...forEachItem(elementCount(y.shape), (n) => `${n.y}[i] = ${n.x}[i] * words.scale + words.offset;`),
      },
    ];
  },
};

const swiglu: OpKernel = {
  encode({ inputs, outputs }) {
    const [gate, up, y] = [dense(inputs, 0), dense(inputs, 1), dense(outputs, 0)];
    return [
      {
        bindings: { gate: read(gate), up: read(up), y: write(y) },
        ...forEachItem(elementCount(y.shape), (n) => `${n.y}[i] = siluOf(${n.gate}[i]) * ${n.up}[i];`, mathSource),
      },
    ];
  },
};

const operators: Readonly<Record<ArithmeticName, string>> = { add: '+', sub: '-', mul: '*', div: '/' };

const arithmetic: OpKernel = {
  encode({ node, inputs, outputs }) {
    const [a, b, y] = [dense(inputs, 0), dense(inputs, 1), dense(outputs, 0)];
    const operator = operators[node.op.name as ArithmeticName];
    const rows = mergeDimensions(y.shape, [broadcastStrides(a.shape, y.shape), broadcastStrides(b.shape, y.shape)]);
    return [
      {
        bindings: { a: read(a), b: read(b), y: write(y) },
        ...forEachItem(
          elementCount(y.shape),
          (n) => `${offsetStatements(rows, 'i', 'at')}
  ${n.y}[i] = ${n.a}[at0] ${operator} ${n.b}[at1];`,
        ),
      },
    ];
  },
};

export const elementwiseKernels: KernelTable = {
  unary,
  affine,
  swiglu,
  add: arithmetic,
  sub: arithmetic,
  mul: arithmetic,
  div: arithmetic,
};
