// Block Hadamard rotations of operands, with signs before or after the transform.
//
//   first  v ↦ (v ∘ s) H      random signs spread whatever the block holds
//   last   v ↦ (v H) ∘ s      signs of coordinates that are turned already: no rounding sees a difference in size

import type { Value } from '../../graph/graph.ts';
import { mul } from '../../graph/ops/arithmetic.ts';
import { hadamard } from '../../graph/ops/hadamard.ts';
import { reshape } from '../../graph/ops/layout.ts';
import type { LayerKey } from './layer-key.ts';
import type { Rotation } from './linear-recipe.ts';

/** The length of a rotation's blocks along a dimension of this size. */
export function blockOf({ block }: Rotation, size: number): number {
  return block === 'whole' ? size & -size : block;
}

/** v [..., K] rotated along K. Throws a user error when the block does not divide K. */
export function rotate(v: Value, rotation: Rotation, key: LayerKey): Value {
  const blockSize = blockOf(rotation, v.type.shape.at(-1) ?? 1);
  if (rotation.signs === 'none') return hadamard(v, { blockSize });
  const signs = key.signs(rotation.signs, blockSize);
  if (rotation.order !== 'last') return hadamard(v, { blockSize, signs });
  return bySigns(hadamard(v, { blockSize }), signs, blockSize);
}

/** The inverse of rotate. */
export function rotateBack(v: Value, rotation: Rotation, key: LayerKey): Value {
  const blockSize = blockOf(rotation, v.type.shape.at(-1) ?? 1);
  if (rotation.signs === 'none') return hadamard(v, { blockSize });
  const signs = key.signs(rotation.signs, blockSize);
  if (rotation.order === 'last') return hadamard(bySigns(v, signs, blockSize), { blockSize });
  return bySigns(hadamard(v, { blockSize }), signs, blockSize);
}

const bySigns = (v: Value, signs: Value, blockSize: number) =>
  reshape(mul(reshape(v, [-1, blockSize]), signs), v.type.shape);
