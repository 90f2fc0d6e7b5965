// Whether two packed operands can be multiplied as integers, and how.
//
// Needed: both element types are int8 multiples of a unit, scales run along rows (any granularity),
// and the coarser group is a multiple of the finer, so that a block of K has one scale on each side. Eight-bit codes
// with zero points span nine bits after subtraction and seven-bit ones eight, so those are dequantized instead, as are
// formats with a stored minimum.

import { elementCodec, integerUnit } from '../formats/element.ts';
import type { Format, QuantSpec } from '../formats/format.ts';
import { scaleLayout } from '../formats/layout.ts';
import { isInt } from '../formats/table.ts';

export interface IntegerCodes {
  /** Integer of every code. */
  readonly values: Int8Array | Uint8Array;
  /** value = integer × unit. */
  readonly unit: number;
}

/**
 * The integers of a spec's codes: value = integer · unit with |integer| ≤ 128; undefined where there is no such unit
 * (FP8, NF4) or a block chooses between two tables.
 */
export function integerCodes(spec: QuantSpec): IntegerCodes | undefined {
  if (spec.choice === 'int-or-float') return undefined;
  const { values } = elementCodec(spec);
  if (spec.zeroPoint !== 'none') return { values: Uint8Array.from(values), unit: 1 };
  const units = isInt(spec.element) ? [integerUnit(spec)] : [1, 1 / 2, 1 / 4, 1 / 8];
  for (const unit of units) {
    const integers = Array.from(values, (v) => v / unit);
    if (integers.every((q) => Number.isInteger(q) && q >= -128 && q <= 127))
      return { values: Int8Array.from(integers), unit };
  }
  return undefined;
}

export interface IntegerPlan {
  /** Values of K under one scale of each operand; at most 2^15, so that sums stay exact in 32 bits. */
  readonly block: number;
  /** Added to the integers of b so that they lie in 0 … 127; −1: eight-bit integers, a kernel that adds an offset decides. */
  readonly offset: number;
  /** Products of block sums and block scales are exact in f32, so fusing multiply and add changes nothing. */
  readonly exact: boolean;
  /** Blocks a run, whose scales may be folded into the integers; 1: none. */
  readonly fold: number;
  /**
   * Folded plans whose blocks fit sums of 16 bits (for hosts where those are faster): the largest Σ |a| over half the values
   * of a run for which the run fits too. 0 for other plans.
   */
  readonly laneLimit: number;
  readonly a: IntegerSide;
  readonly b: IntegerSide;
}

export interface IntegerSide {
  /** One scale holds for a whole row, so blocks need none. */
  readonly perRow: boolean;
  /** Bits by which integers may be shifted left when a run is folded. */
  readonly shift: number;
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

/** Significant bits of the block scales. */
function scaleBits(spec: QuantSpec, perRow: boolean): number {
  if (perRow || spec.scale.format === 'e8m0') return 1;
  return { f32: 24, f16: 11, bf16: 8, e4m3: 4, ue5m3: 4, e6m2: 3 }[spec.scale.format];
}

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
  const sideA = { perRow: groupA >= K, shift: 0 };
  const sideB = { perRow: groupB >= K, shift: 0 };
  const bitsA = scaleBits(a, sideA.perRow);
  const bitsB = scaleBits(b, sideB.perRow);
  const powers = bitsA === 1 && bitsB === 1;
  const largest = (r: readonly [number, number]) => Math.max(-r[0], r[1]);
  const sumBits = Math.ceil(Math.log2(block * largest(rangeA) * largest(rangeB)));
  const plan = { block, exact: powers || sumBits + bitsA + bitsB <= 24, fold: 1, laneLimit: 0, a: sideA, b: sideB };
  const width = rangeB[1] - rangeB[0];
  if (width > 127) return { ...plan, offset: -1 };
  if (!powers || block > 64 || K % (2 * block) !== 0) return { ...plan, offset: -rangeB[0] };
  // Short blocks with power-of-two scales: runs of 2 or 4. Four blocks of 64, |a| ≤ 128 and |b| ≤ 127: sums below 2^22.
  const shiftA = [3, 2, 1, 0].find((s) => largest(rangeA) << s <= 127) ?? 0;
  const shiftB = [3, 2, 1, 0].find((s) => width << s <= 127) ?? 0;
  const largestB = largest(rangeB) << shiftB;
  const narrow = block % 16 === 0 && (block / 2) * largest(rangeA) * largestB < 2 ** 15;
  return {
    ...plan,
    offset: -rangeB[0] << shiftB,
    fold: K % (4 * block) === 0 ? 4 : 2,
    laneLimit: narrow ? Math.floor((2 ** 15 - 1) / largestB) : 0,
    a: { ...sideA, shift: shiftA },
    b: { ...sideB, shift: shiftB },
  };
}
