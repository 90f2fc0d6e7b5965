// What the case files share: graphs of dense inputs, seeded data, packed weights.

import { quantize as encode } from '../../formats/quantize.ts';
import { parseFormat } from '../../formats/registry.ts';
import type { Value } from '../../graph/graph.ts';
import { f32 } from '../../graph/value-type.ts';
import { elementCount, type Shape } from '../../tensor/shape.ts';
import { type QTensor, qtensor } from '../../tensor/tensor.ts';
import { gaussian, type OpCase } from '../op-case.ts';

export type Data = Record<string, Float32Array | Int32Array>;

/** A case whose graph takes only f32 inputs of the given shapes, filled with normal numbers, and has output y. */
export function dense(
  name: string,
  shapes: readonly Shape[],
  tolerance: OpCase['tolerance'],
  body: (...inputs: Value[]) => Value,
  data: Data = {},
): OpCase {
  const names = shapes.map((_, i) => 'abcdef'[i]);
  return {
    name,
    tolerance,
    build: (g) => void g.output('y', body(...shapes.map((shape, i) => g.input(names[i], f32(shape))))),
    runs: [{ ...Object.fromEntries(shapes.map((shape, i) => [names[i], gaussian(i + 1, shape)])), ...data }],
  };
}

/** A seeded matrix stored in a format. */
export function packedTensor(seed: number, shape: Shape, format: string): QTensor {
  const cols = shape[shape.length - 1];
  const rows = elementCount(shape) / cols;
  return qtensor(shape, encode(gaussian(seed, shape), rows, cols, parseFormat(format)));
}

/** One of each kind: 16-bit, MX, NV, groups with and without zero point, rows, ggml blocks. */
export const weightFormats = [
  'f16',
  'bf16',
  'mxfp4',
  'nvfp4',
  'int4-g32',
  'int4-g32-asym',
  'int8-channel',
  'mxfp8-e4m3',
  'q4_0',
  'q8_0',
];
