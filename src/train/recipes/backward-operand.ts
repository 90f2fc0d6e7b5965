// What the backward products take from the forward one: its codes, their values, or the tensors that they were made of.

import { parseFormat } from '../../formats/registry.ts';
import type { Value } from '../../graph/graph.ts';
import { dequantize } from '../../graph/ops/quantize.ts';
import { isTransposable } from '../../graph/ops/transpose-packed.ts';
import type { Operand, ProductRecipe } from './linear-recipe.ts';
import { isRandom } from './operand.ts';

/** An input of the node of the forward product as codes: experts' products take them decoded. */
export function forwardCodes(v: Value): Value {
  if (v.type.dtype === 'packed') return v;
  const producer = producerOf(v);
  return producer?.op.name === 'dequantize' ? producer.inputs[0] : v;
}

/** Values of a forward operand: those of its codes, or the tensor that these were made of. */
export function savedValues(v: Value, { from = 'forward' }: Operand): Value {
  if (v.type.dtype !== 'packed') return v;
  if (from === 'forward') return dequantize(v);
  const producer = producerOf(v);
  if (!producer) throw new Error(`recipe: ${v.name} was made by no node`);
  return producer.inputs[0];
}

/** The producer of this very value, which is a copy where the block is computed again. */
const producerOf = (v: Value) => v.graph.nodes.findLast(({ outputs }) => outputs.includes(v));

/**
 * Whether the second operand of a backward product has the forward codes, transposed, bit for bit: it is what the
 * forward product saw, or rounds the same tensor to the same format with scales that look alike from both sides.
 */
export function hasTransposedCodes(codes: Value, before: Operand, { b, rotation }: ProductRecipe): boolean {
  if (codes.type.dtype !== 'packed' || !isTransposable(codes.type.format, codes.type.shape)) return false;
  if (rotation || b.outer) return false;
  const { from = 'forward' } = b;
  if (b.format === 'f32') return from === 'forward';
  const format = parseFormat(b.format);
  // rounding twice to 16 bits is rounding once; with a scale of its own the second rounding has another
  return b.format === before.format && !isRandom(format) && (from === 'exact' || format.kind === 'float');
}
