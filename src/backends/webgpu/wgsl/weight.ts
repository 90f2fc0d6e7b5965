// A weight matrix that tiles read (wgsl/tile.ts), dense or packed.

import type { Operand } from '../kernel.ts';
import { decodeSource } from './decode.ts';
import type { TileOperand } from './tile.ts';

/** What reading the weight from the array called `array` needs before the entry point. */
export const weightSource = (weight: Operand, array: string) =>
  weight.dtype === 'packed' ? decodeSource([{ prefix: 'weight', array, matrix: weight }]) : '';

/**
 * The part of a TileOperand that says where its elements are: `at` gives matrix row and column of tile row and k. Leading
 * dimensions of the weight count as rows. Of a packed weight, tiles begin at columns that are multiples of 8.
 */
export function weightElement(
  weight: Operand,
  array: string,
  at: (row: string, k: string) => readonly [row: string, column: string],
): Pick<TileOperand, 'element' | 'packed'> {
  const columns = weight.shape[weight.shape.length - 1];
  const packed = weight.dtype === 'packed';
  return {
    packed,
    element(tileRow, k) {
      const [row, column] = at(tileRow, k);
      return packed ? `weightEight(${row}, ${column})` : `${array}[(${row}) * ${columns}u + ${column}]`;
    },
  };
}

/** `weightAt(row, column)`: one number of it. Needs weightSource. */
export function weightAtSource(weight: Operand, array: string): string {
  const columns = weight.shape[weight.shape.length - 1];
  const value =
    weight.dtype === 'packed'
      ? `let eight = weightEight(row, column & ~7u);
  return select(eight.high[column & 3u], eight.low[column & 3u], (column & 4u) == 0u);`
      : `return ${array}[row * ${columns}u + column];`;
  return `
fn weightAt(row: u32, column: u32) -> f32 {
  ${value}
}
`;
}
