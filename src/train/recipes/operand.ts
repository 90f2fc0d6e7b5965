// An operand of a low-precision product on its way into it, and the product on its way out.

import type { Format } from '../../formats/format.ts';
import { parseFormat } from '../../formats/registry.ts';
import type { Value } from '../../graph/graph.ts';
import { affine } from '../../graph/ops/affine.ts';
import { quantize, type RandomKey } from '../../graph/ops/quantize.ts';
import type { LayerKey } from './layer-key.ts';
import type { Operand, ProductRecipe, Rotation } from './linear-recipe.ts';
import { swap } from './product-kind.ts';
import { rotate, rotateBack } from './rotation.ts';

/** Streams of a layer. */
const streams = { x: 0, w: 1, inputE: 2, inputW: 3, weightE: 4, weightX: 5 } as const;
export const streamsPerLayer = 8;
export type OperandName = keyof typeof streams;

/** v turned along the reduced dimension, and along the other where the operand asks for it. */
export function turn(v: Value, { outer }: Operand, rotation: Rotation | undefined, key: LayerKey): Value {
  const along = rotation ? rotate(v, rotation, key) : v;
  return outer ? swap(rotate(swap(along), outer, key)) : along;
}

/** v turned and rounded; f32: turned. */
export function rounded(
  v: Value,
  operand: Operand,
  rotation: Rotation | undefined,
  key: LayerKey,
  name: OperandName,
): Value {
  const turned = turn(v, operand, rotation, key);
  if (operand.format === 'f32') return turned;
  return quantize(turned, parseFormat(operand.format), randomOf(operand, key, name));
}

/** A product's result: corrections, and rotations of the outer dimensions undone. */
export function finished(y: Value, { a, b }: ProductRecipe, key: LayerKey): Value {
  const factor = (a.correction ?? 1) * (b.correction ?? 1);
  const scaled = factor === 1 ? y : affine(y, { scale: factor });
  const rows = a.outer ? swap(rotateBack(swap(scaled), a.outer, key)) : scaled;
  return b.outer ? rotateBack(rows, b.outer, key) : rows;
}

export function randomOf({ format }: Operand, key: LayerKey, name: OperandName): RandomKey {
  if (!isRandom(parseFormat(format))) return {};
  return { seed: key.seed, stream: key.stream + streams[name], step: key.step() };
}

/** Elements, or the scales of MS-EDEN, are rounded stochastically. */
export const isRandom = (format: Format): boolean =>
  format.kind === 'quant' && (format.rounding === 'stochastic' || format.scale.rule === 'ms-eden');
