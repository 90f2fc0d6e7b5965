// Whether two packed operands can be multiplied as integers, and how.
//
// Needed: both element types are int8 multiples of a unit (matmul-source.ts), scales run along rows (any granularity),
// and the coarser group is a multiple of the finer, so that a block of K has one scale on each side. Eight-bit codes
// with zero points span nine bits after subtraction and seven-bit ones eight, so those are dequantized instead, as are
// formats with a stored minimum.

import { elementCodec } from '../../formats/element.ts';
import type { Format, QuantSpec } from '../../formats/format.ts';
import { scaleLayout } from '../../formats/layout.ts';
import { integerCodes } from './matmul-source.ts';

export interface IntegerPlan {
  /** Values of K under one scale of each operand; at most 2^15, so that sums stay exact in 32 bits. */
  readonly block: number;
  /** Added to the integers of b so that they lie in 0 … 127; −1: eight-bit integers, the kernel decides. */
  readonly offset: number;
  /** The scale products are exact in f32, so fusing multiply and add changes nothing. */
  readonly exact: boolean;
}

/** Smallest and largest integer of a code after its zero point, undefined where integers do not apply. */
function integerRange(format: Format): readonly [number, number] | undefined {
  if (format.kind !== 'quant' || format.zeroPoint === 'float') return undefined;
  const codes = integerCodes(format);
  if (!codes) return undefined;
  if (format.zeroPoint === 'integer') {
    const top = 2 ** elementCodec(format).bits - 1;
    return [-top, top];
  }
  return [Math.min(...codes.values), Math.max(...codes.values)];
}

/** One-byte scales have at most four significant bits; with a product sum below 2^15 nothing is rounded. */
const shortScales = (spec: QuantSpec) => ['e8m0', 'e4m3', 'ue5m3', 'e6m2'].includes(spec.scale.format);

/** The integer product of a [rowsA, K] and b [rowsB, K], or undefined when it has to be f32. */
export function integerPlan(a: Format, rowsA: number, b: Format, rowsB: number, K: number): IntegerPlan | undefined {
  const rangeA = integerRange(a);
  const rangeB = integerRange(b);
  if (!rangeA || !rangeB || a.kind !== 'quant' || b.kind !== 'quant') return undefined;
  if (rangeA[0] < -128 || rangeA[1] > 127 || rangeB[0] < -128 || rangeB[1] > 127) return undefined;
  const groupA = Math.min(scaleLayout(a.granularity, rowsA, K).tileCols, K);
  const groupB = Math.min(scaleLayout(b.granularity, rowsB, K).tileCols, K);
  const group = Math.min(groupA, groupB);
  const other = Math.max(groupA, groupB);
  if (other % group !== 0 && other < K) return undefined;
  // A long group is cut: into equal pieces where that is possible, otherwise it must be the whole row.
  let block = group;
  if (block > 2 ** 15) {
    block = 2 ** 15;
    if (group % block !== 0 && group < K) return undefined;
  }
  const fits = rangeB[1] - rangeB[0] <= 127;
  const magnitude = (r: readonly [number, number]) => Math.max(-r[0], r[1]);
  const sum = block * magnitude(rangeA) * magnitude(rangeB);
  return {
    block,
    offset: fits ? -rangeB[0] : -1,
    exact: shortScales(a) && shortScales(b) && sum < 2 ** 16,
  };
}
