// Gradients of unary and swiglu.
//
// Thread map: one thread for four neighbouring elements. The first result may lie on the memory of any operand: a thread
// reads its elements of all of them before it writes. No workgroup memory, no features.

import type { UnaryAttributes, UnaryKind } from '../../../graph/ops/unary.ts';
import { elementCount } from '../../../tensor/shape.ts';
import { forEachFour, onFour } from '../entry.ts';
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
    const prelude = `${mathSource}${slopesSource}fn slopeAt(x: f32, g: f32) -> f32 { return ${gradients[kind]}; }\n`;
    const body = (n: Names) => `let x = ${n.source}[i];
  let g = ${n.dy}[i];
  ${n.dx}[i] = ${onFour('slopeAt', 'x', 'g')};`;
    return [
      {
        bindings: { source: read(x, 'vec4<f32>'), dy: read(dy, 'vec4<f32>'), dx: write(dx, 'vec4<f32>') },
        ...forEachFour(elementCount(dx.shape), body, prelude),
      },
    ];
  },
};

const swigluBackward: OpKernel = {
  encode({ inputs, outputs }) {
    const [gate, up, dy] = inputs.map((_, i) => read(dense(inputs, i), 'vec4<f32>'));
    const [dgate, dup] = outputs.map((_, i) => write(dense(outputs, i), 'vec4<f32>'));
    const prelude = `${mathSource}${slopesSource}
/* sigmoid(x) and the slope of silu */
fn gateAt(x: f32) -> vec2f { let s = onOff(x); return vec2f(s.x, s.x * (1.0 + x * s.y)); }
`;
    const body = (n: Names) => `let x = ${n.gate}[i];
  let up = ${n.factor}[i];
  let g = ${n.dy}[i];
  let gates = mat4x2f(gateAt(x.x), gateAt(x.y), gateAt(x.z), gateAt(x.w));
  ${n.dgate}[i] = vec4f(gates[0].y, gates[1].y, gates[2].y, gates[3].y) * up * g;
  ${n.dup}[i] = x * vec4f(gates[0].x, gates[1].x, gates[2].x, gates[3].x) * g;`;
    return [
      {
        bindings: { gate, factor: up, dy, dgate, dup },
        ...forEachFour(elementCount(dense(outputs, 1).shape), body, prelude),
      },
    ];
  },
};

export const elementwiseBackwardKernels: KernelTable = { unaryBackward, swigluBackward };
