// The transposition of packed matrices without decoding them.
//
//   packed [..., M, K] → packed [..., K, M] of the same values
//
// Where a scale covers a square of values, or all of them, the transposed matrix has the transposed codes and scales, bit
// for bit: 16×16 and 128×128 tiles, per-tensor scales, and bf16 and f16, which have none. Groups along K and scales of
// rows have no such form: their transposes must be rounded anew.

import type { Format } from '../../formats/format.ts';
import { formatName } from '../../formats/registry.ts';
import { elementBits } from '../../formats/table.ts';
import type { Shape } from '../../tensor/shape.ts';
import { applyOp } from '../apply.ts';
import { denseOrPackedShape, shapeError } from '../check.ts';
import type { OpDefinition, Value } from '../graph.ts';
import { perInput } from '../rule.ts';
import { packed, printType } from '../value-type.ts';
import { transpose } from './layout.ts';

/** Bits of a code, where codes of the format can be moved one by one; undefined for other formats. */
export function movableBits(format: Format): 4 | 8 | 16 | undefined {
  if (format.kind === 'float') return format.name === 'f32' ? undefined : 16;
  if (format.kind !== 'quant' || format.zeroPoint !== 'none' || format.choice !== 'none') return undefined;
  const bits = elementBits(format.element);
  return bits === 4 || bits === 8 ? bits : undefined;
}

/** Whether matrices [..., M, K] in this format have a transpose in the same format, codes and scales moved. */
export function isTransposable(format: Format, shape: Shape): boolean {
  if (movableBits(format) === undefined || shape.length < 2) return false;
  if (format.kind !== 'quant') return true;
  const { granularity } = format;
  if (granularity.kind === 'tensor') return true;
  if (granularity.kind !== 'tile' || granularity.rows !== granularity.cols) return false;
  // tiles of several matrices must end with each of them
  const side = granularity.rows;
  return shape.length === 2 || shape.slice(-2).every((size) => size % side === 0);
}

export const transposePackedOp: OpDefinition<Record<string, never>> = {
  name: 'transposePacked',
  infer([x]) {
    const shape = denseOrPackedShape('transposePacked', 'x', x, [2]);
    if (x.dtype !== 'packed')
      throw shapeError('transposePacked', 'x is dense', printType(x), 'packed values', 'use transpose');
    if (!isTransposable(x.format, shape))
      throw shapeError(
        'transposePacked',
        'the transpose has no codes in this format',
        `${formatName(x.format)} ${printType(x)}`,
        'scales of square tiles or of the whole tensor, codes of 4, 8 or 16 bits',
        'dequantize, transpose and quantize',
      );
    return [packed(swapped(shape), x.format)];
  },
  gradient: perInput((_, g) => [() => transpose(g, swapped([...g.type.shape.keys()]))]),
};

const swapped = <T>(list: readonly T[]): T[] => [...list.slice(0, -2), list[list.length - 1], list[list.length - 2]];

/** packed [..., M, K] → packed [..., K, M]. Throws a SubbyteError for a format that isTransposable refuses. */
export const transposePacked = (x: Value): Value => applyOp(transposePackedOp, [x], {})[0];
