// Elementwise ops: unary functions, affine, swiglu and arithmetic with broadcasting.
//
// Thread map: one thread for four neighbouring elements of the result, or for one where broadcasting pulls the four of an
// operand apart; operands that are stretched are found through their merged dimensions. An output may lie on an operand's
// memory. No workgroup memory, no features.

import type { AffineAttributes } from '../../../graph/ops/affine.ts';
import type { ArithmeticName } from '../../../graph/ops/arithmetic.ts';
import type { UnaryAttributes, UnaryKind } from '../../../graph/ops/unary.ts';
import { elementCount } from '../../../tensor/shape.ts';
import { broadcastStrides, mergeDimensions } from '../../dimensions.ts';
import { forEachFour, forEachItem, onFour } from '../entry.ts';
import { dense, type ElementType, type KernelTable, type Names, type OpKernel, read, write } from '../kernel.ts';
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
    const prelude = `${mathSource}fn valueAt(x: f32) -> f32 { return ${functions[kind]}; }\n`;
    const body = (n: Names) => `let x = ${n.source}[i];
  ${n.y}[i] = ${onFour('valueAt', 'x')};`;
    const bindings = { source: read(x, 'vec4<f32>'), y: write(y, 'vec4<f32>') };
    return [{ bindings, ...forEachFour(elementCount(y.shape), body, prelude) }];
  },
};

const affine: OpKernel = {
  encode({ node, inputs, outputs }) {
    const { scale, offset } = node.attributes as unknown as AffineAttributes;
    const [x, y] = [dense(inputs, 0), dense(outputs, 0)];
    return [
      {
        bindings: { x: read(x, 'vec4<f32>'), y: write(y, 'vec4<f32>') },
        words: { scale: { f32: scale }, offset: { f32: offset } },
        ...forEachFour(elementCount(y.shape), (n) => `${n.y}[i] = ${n.x}[i] * words.scale + words.offset;`),
      },
    ];
  },
};

const swiglu: OpKernel = {
  encode({ inputs, outputs }) {
    const [gate, up, y] = [dense(inputs, 0), dense(inputs, 1), dense(outputs, 0)];
    const body = (n: Names) => `let x = ${n.gate}[i];
  ${n.y}[i] = ${onFour('siluOf', 'x')} * ${n.factor}[i];`;
    return [
      {
        bindings: { gate: read(gate, 'vec4<f32>'), factor: read(up, 'vec4<f32>'), y: write(y, 'vec4<f32>') },
        ...forEachFour(elementCount(y.shape), body, mathSource),
      },
    ];
  },
};

const operators: Readonly<Record<ArithmeticName, string>> = { add: '+', sub: '-', mul: '*', div: '/' };

/**
 * The dimensions (size, strides of a and b) in steps of four numbers, where each operand has its four side by side or
 * repeats one number; undefined where that is not so. `repeats`: which operands are read as single numbers.
 */
function inFours(rows: readonly (readonly number[])[]): { rows: number[][]; repeats: boolean[] } | undefined {
  const outer = rows.slice(0, -1);
  const [size, ...inner] = rows[rows.length - 1];
  const repeats = inner.map((stride) => stride === 0);
  const aligned = outer.every((row) => row.slice(1).every((stride, j) => repeats[j] || stride % 4 === 0));
  if (size === 1 || inner.some((stride) => stride > 1) || !aligned || (size % 4 !== 0 && outer.length > 0))
    return undefined;
  const scaled = outer.map(([count, ...strides]) => [count, ...strides.map((s, j) => (repeats[j] ? s : s / 4))]);
  return { rows: [...scaled, [Math.ceil(size / 4), ...inner]], repeats };
}

const arithmetic: OpKernel = {
  encode({ node, inputs, outputs }) {
    const [a, b, y] = [dense(inputs, 0), dense(inputs, 1), dense(outputs, 0)];
    const operator = operators[node.op.name as ArithmeticName];
    const rows = mergeDimensions(y.shape, [broadcastStrides(a.shape, y.shape), broadcastStrides(b.shape, y.shape)]);
    const fours = inFours(rows);
    const body = (n: Names) => `${offsetStatements(fours?.rows ?? rows, 'i', 'at')}
  ${n.y}[i] = ${n.a}[at0] ${operator} ${n.b}[at1];`;
    const count = elementCount(y.shape);
    if (!fours) return [{ bindings: { a: read(a), b: read(b), y: write(y) }, ...forEachItem(count, body) }];
    const [typeA, typeB] = fours.repeats.map((one) => (one ? 'f32' : 'vec4<f32>') as ElementType);
    const bindings = { a: read(a, typeA), b: read(b, typeB), y: write(y, 'vec4<f32>') };
    return [{ bindings, ...forEachFour(count, body) }];
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
