// Rounding to a grid whose step is an operand, and its gradients.
//
//   s = max(step, ε),  z = x / s,  level(z) = rne(clip(z, low, high) − shift) + shift,  y = s · level(z)
//
// WGSL's division is not correctly rounded, and near the middle between two levels a quotient off by one bit gives
// another level. So the quotient only proposes a level; then x is compared with s times the middle to either side, and
// in the gradients with s times the bounds. With s = s₁ + s₂ and factors cut into pieces of 12 bits every product is
// exact, and so is the first difference where it decides (Sterbenz 1974); products that are exact stay so when a
// compiler fuses them. Levels and the middles between them have 12 bits where the grid lies within ±2047 steps. ε is
// rounded to float32.
// Thread map: one thread for each element. No workgroup memory, no features.

import type { FakeQuantizeAttributes } from '../../../graph/ops/fake-quantize.ts';
import { elementCount } from '../../../tensor/shape.ts';
import { broadcastStrides, mergeDimensions, strides } from '../../dimensions.ts';
import { forEachItem } from '../entry.ts';
import {
  type DenseOperand,
  dense,
  type EncodeContext,
  type KernelTable,
  type Names,
  type OpKernel,
  read,
  type Word,
  write,
} from '../kernel.ts';
import { mathSource } from '../wgsl/math.ts';
import { offsetStatements } from '../wgsl/offsets.ts';

const mostSteps = 2047;

/** A number as a sum of three floats, the first two of 12 bits. */
function pieces(x: number): [number, number, number] {
  const cut = (rest: number) => {
    const bits = new Uint32Array(Float32Array.of(rest).buffer);
    bits[0] &= 0xfffff000;
    return new Float32Array(bits.buffer)[0];
  };
  const first = cut(x);
  const second = cut(x - first);
  return [first, second, Math.fround(x - first - second)];
}

/** To nearest, ties to even. */
function nearestEven(x: number): number {
  const floor = Math.floor(x);
  const rest = x - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 !== 0) ? floor + 1 : floor;
}

function gridWords({ low, high, shift, edge, epsilon }: FakeQuantizeAttributes): Record<string, Word> {
  const bound = (name: string, x: number) =>
    Object.fromEntries(pieces(x).map((piece, i) => [`${name}${i}`, { f32: piece }]));
  return {
    ...bound('low', low),
    ...bound('high', high),
    shift: { f32: shift },
    least: { f32: nearestEven(low - shift) },
    most: { f32: nearestEven(high - shift) },
    edge: { f32: edge },
    epsilon: { f32: epsilon },
  };
}

const gridSource = `${mathSource}
/* x − s (a + b + c), a and b of 12 bits: its sign is exact where b and c are 0. */
fn gap(x: f32, s: f32, a: f32, b: f32, c: f32) -> f32 {
  let s1 = bitcast<f32>(bitcast<u32>(s) & 0xfffff000u);
  let s2 = s - s1;
  return ((((x - s1 * a) - s2 * a) - s1 * b) - s2 * b) - s * c;
}
fn stepOf(step: f32) -> f32 { return select(step, words.epsilon, step < words.epsilon); }
/* The level of x, in steps. */
fn levelOf(x: f32, s: f32) -> f32 {
  var n = round(clamp(x / s - words.shift, words.least - 1.0, words.most + 1.0));
  let above = gap(x, s, n + words.shift + 0.5, 0.0, 0.0);
  let below = gap(x, s, n + words.shift - 0.5, 0.0, 0.0);
  let odd = (i32(n) & 1) == 1;
  if (above > 0.0 || (above == 0.0 && odd)) { n += 1.0; } else if (below < 0.0 || (below == 0.0 && odd)) { n -= 1.0; }
  return select(clamp(n, words.least, words.most) + words.shift, x, isNan(x));
}
`;

const tooWide = ({ low, high }: FakeQuantizeAttributes) =>
  Math.max(-low, high) > mostSteps ? `a grid beyond ±${mostSteps} steps` : undefined;

/** Statements that set x and s of element i. */
function elements(n: Names, x: DenseOperand, step: DenseOperand): string {
  const rows = mergeDimensions(x.shape, [strides(x.shape), broadcastStrides(step.shape, x.shape)]);
  return `${offsetStatements(rows, 'i', 'at')}
  let x = ${n.source}[i];
  let s = stepOf(${n.step}[at1]);`;
}

const gridOf = ({ node }: EncodeContext) => node.attributes as unknown as FakeQuantizeAttributes;

const fakeQuantize: OpKernel = {
  unsupported: ({ attributes }) => tooWide(attributes as unknown as FakeQuantizeAttributes),
  encode(context) {
    const { inputs, outputs } = context;
    const [x, step, y] = [dense(inputs, 0), dense(inputs, 1), dense(outputs, 0)];
    const body = (n: Names) => `${elements(n, x, step)}
  ${n.y}[i] = s * levelOf(x, s);`;
    return [
      {
        bindings: { source: read(x), step: read(step), y: write(y) },
        words: gridWords(gridOf(context)),
        ...forEachItem(elementCount(x.shape), body, gridSource),
      },
    ];
  },
};

const fakeQuantizeBackward: OpKernel = {
  unsupported: ({ attributes }) => tooWide(attributes as unknown as FakeQuantizeAttributes),
  encode(context) {
    const { inputs, outputs } = context;
    const [x, step, dy] = inputs.map((_, i) => dense(inputs, i));
    const [dx, shares] = [dense(outputs, 0), dense(outputs, 1)];
    const body = (n: Names) => `${elements(n, x, step)}
  let g = ${n.dy}[i];
  let level = levelOf(x, s);
  let inside = gap(x, s, words.low0, words.low1, words.low2) >= 0.0
    && gap(x, s, words.high0, words.high1, words.high2) <= 0.0;
  ${n.dx}[i] = select(0.0, g, inside);
  ${n.shares}[i] = g * select(words.edge * level, -gap(x, s, level, 0.0, 0.0) / s, inside);`;
    return [
      {
        bindings: { source: read(x), step: read(step), dy: read(dy), dx: write(dx), shares: write(shares) },
        words: gridWords(gridOf(context)),
        ...forEachItem(elementCount(x.shape), body, gridSource),
      },
    ];
  },
};

export const fakeQuantizeKernels: KernelTable = { fakeQuantize, fakeQuantizeBackward };
