// dgeBackward: the smoothed slope of rounding to the levels of a format (graph/ops/dge.ts has the formula).
//
// Levels of integers and minifloats need no table. By symmetry only |z| matters: with 2^e ≤ |z| < 2^(e+1) the levels
// around it are d = max(2^e, smallest normal) · 2^−m apart (for integers always one unit). The slope is steep midway
// between two levels, where u = |2t/d − 1| is the distance from that middle M: u = 2 | |x| − scale · M | / (scale · d).
// The quotient z only finds M; the scale (times the tensor scale) is two floats of 16 bits or fewer, so that its products
// with M are exact and the difference keeps its digits. Where z errs across a level, u is next to 1 from both intervals.
// Thread map: one thread for each element. No workgroup memory, no features.

import { integerUnit } from '../../../formats/element.ts';
import type { QuantSpec } from '../../../formats/format.ts';
import { isInt, isMinifloat, minifloats } from '../../../formats/table.ts';
import type { Node } from '../../../graph/graph.ts';
import { type DgeAttributes, edgeSlack, roundingLevels } from '../../../graph/ops/dge.ts';
import { elementCount } from '../../../tensor/shape.ts';
import { forEachItem } from '../entry.ts';
import {
  dense,
  type KernelTable,
  type Names,
  type OpKernel,
  packedOperand,
  read,
  type Word,
  write,
} from '../kernel.ts';
import { accessSource, valueSource } from '../wgsl/bits.ts';
import { scaleIndex, storedScaleSource } from '../wgsl/decode.ts';
import { mathSource } from '../wgsl/math.ts';

function specOf({ inputs: [, { type }] }: Node): QuantSpec {
  if (type.dtype !== 'packed' || type.format.kind !== 'quant') throw new Error('webgpu: dgeBackward without levels');
  return type.format;
}

/** Mask of the exponent (0: integers), the smallest normal number or the unit, and 2^−m or 1. */
function spacing(spec: QuantSpec): Record<'mask' | 'smallest' | 'fraction', Word> {
  if (!isMinifloat(spec.element)) return { mask: 0, smallest: { f32: integerUnit(spec) }, fraction: { f32: 1 } };
  const { bias, mantissaBits } = minifloats[spec.element];
  return { mask: 0x7f800000, smallest: { f32: 2 ** (1 - bias) }, fraction: { f32: 2 ** -mantissaBits } };
}

const slopeSource = `
/* The slope at x; the scale is a + b. */
fn slopeOf(x: f32, a: f32, b: f32) -> f32 {
  let scale = a + b;
  if (scale == 0.0) { return words.level; }
  let z = x / scale;
  let binade = bitcast<f32>(bitcast<u32>(z) & words.mask);
  let width = max(binade, words.smallest) * words.fraction;
  let perWidth = bitcast<f32>(0x7f000000u - bitcast<u32>(width)); /* 1 / width: a power of two */
  let middle = (floor(abs(z) * perWidth) + 0.5) * width;
  let distance = (abs(x) - a * middle) - b * middle;
  let u = max(abs(distance + distance) / (scale * width), 1e-30);
  let slope = min(expOf(logOf(u) * words.exponent) * words.level, words.cap);
  return select(0.0, slope, z >= words.low && z <= words.high);
}
fn upper(x: f32) -> f32 { return bitcast<f32>(bitcast<u32>(x) & 0xfffff000u); }
`;

const dgeBackward: OpKernel = {
  unsupported(node) {
    const { element } = specOf(node);
    return isInt(element) || isMinifloat(element) ? undefined : `levels of ${element}`;
  },
  encode({ node, inputs, outputs }) {
    const { k, cap } = node.attributes as unknown as DgeAttributes;
    const spec = specOf(node);
    const [x, y, dy, dx] = [dense(inputs, 0), packedOperand(inputs, 1), dense(inputs, 2), dense(outputs, 0)];
    const levels = roundingLevels(spec);
    const parts = (n: Names) =>
      spec.scale.tensorScale
        ? `let second = bitcast<f32>(${n.rounded}[${y.layout.tensorScale / 4}u]);
  let a = scale * upper(second);
  let b = scale * (second - upper(second));`
        : `let a = upper(scale);
  let b = scale - a;`;
    const body = (n: Names) => `let scale = storedScale(${scaleIndex(y, spec, `(i / ${y.cols}u)`, `(i % ${y.cols}u)`)});
  ${parts(n)}
  ${n.dx}[i] = slopeOf(${n.source}[i], a, b) * ${n.dy}[i];`;
    const prelude = (n: Names) =>
      mathSource +
      valueSource +
      accessSource('y', n.rounded) +
      storedScaleSource('storedScale', 'y', n.rounded, spec.scale.format, y.layout.scales) +
      slopeSource;
    return [
      {
        bindings: { source: read(x), rounded: read(y), dy: read(dy), dx: write(dx) },
        words: {
          ...spacing(spec),
          exponent: { f32: 1 / k - 1 },
          level: { f32: 1 / k },
          cap: { f32: cap },
          low: { f32: levels[0] * (1 + edgeSlack) },
          high: { f32: levels[levels.length - 1] * (1 + edgeSlack) },
        },
        ...forEachItem(elementCount(x.shape), body, prelude),
      },
    ];
  },
};

export const dgeKernels: KernelTable = { dgeBackward };
