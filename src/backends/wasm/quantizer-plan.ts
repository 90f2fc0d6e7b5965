// Which formats the quantization kernels know, and the argument words that describe one (kernels/quantize/index.ts).
//
// Kernels exist for integers and the OCP minifloats under uniform rules: round to nearest even; f32, f16 and bf16
// scales by absmax (symmetric restricted or half-range, integer zero point, float minimum); E8M0 scales by floor, ceil,
// even or rceil; E4M3 and UE5M3 scales, one or two levels, by absmax; NVFP4 as compressed-tensors, Transformer Engine
// and modelopt compute it, and four-over-six; all of the first three families by the search `mse` where rows do not share
// scales. Widths that share a scale must be multiples of 16. Other searches and choices, stochastic rounding, codebooks
// and other library conventions take the reference codec.

import { f32Bits } from '../../formats/bits.ts';
import { elementCodec, integerUnit } from '../../formats/element.ts';
import type { Format, QuantSpec } from '../../formats/format.ts';
import { signedRange } from '../../formats/int.ts';
import { maxMagnitudeCode } from '../../formats/minifloat.ts';
import { packedRowBytes } from '../../formats/packing.ts';
import { contradictionOf } from '../../formats/registry.ts';
import {
  elementBits,
  elementEmax,
  elementMantissaBits,
  intBits,
  isInt,
  isMinifloat,
  minifloats,
} from '../../formats/table.ts';

const scaleIds = { f32: 0, f16: 1, bf16: 2, e8m0: 3, e4m3: 4, ue5m3: 5 } as const;
const e8m0Rules = { floor: 0, ceil: 1, even: 2, rceil: 3 } as const;
const floatRules = { absmax: 4, 'compressed-tensors': 5, 'transformer-engine': 6, modelopt: 7 } as const;
/** Candidates of a search and what else stands before the values of its tile: kernels/quantize/search.ts. */
const searchBytes = 64 + 80 * 32;

const has = <T extends object>(record: T, key: PropertyKey): key is keyof T => Object.hasOwn(record, key);

/** Whether the kernels encode this format for rows of `cols` values; if not, use the reference codec and say so. */
export function hasQuantizeKernel(format: Format, cols: number): format is QuantSpec {
  if (format.kind !== 'quant' || contradictionOf(format)) return false;
  const { element, scale, granularity: g } = format;
  const width = g.kind === 'group' ? g.size : g.kind === 'tile' ? Math.min(g.cols, cols) : cols;
  if (width % 16 !== 0 || cols % 16 !== 0 || (g.kind === 'group' && cols % g.size !== 0)) return false;
  if (format.rounding !== 'nearest-even' || format.range === 'signed-max') return false;
  if (format.choice !== 'none') return format.choice === 'four-over-six' && g.kind === 'group';
  if (!isInt(element) && !(isMinifloat(element) && minifloats[element].specials !== 'fnuz')) return false;
  if (isMinifloat(element) && minifloats[element].mantissaBits === 0) return false;
  // zero points of a whole tensor or tile need the range of many rows
  if (format.zeroPoint !== 'none' && (g.kind === 'tensor' || (g.kind === 'tile' && g.rows > 1))) return false;
  if (!has(scaleIds, scale.format)) return false;
  // a search looks at one row at a time
  if (isSearched(format)) return g.kind !== 'tensor' && bandRows(format) === 1;
  return has(scale.format === 'e8m0' ? e8m0Rules : floatRules, scale.rule);
}

/** Whether the kernels search the scales of this format. */
const isSearched = (spec: QuantSpec): boolean => spec.scale.rule === 'mse' && spec.choice === 'none';

/** Whether the kernels search scales or choose between two. */
export const selectsScales = (spec: QuantSpec): boolean => isSearched(spec) || spec.choice !== 'none';

/** Words 30 … 33 of the argument block: whether scales are searched, the measure of a choice (0: none) and its factors. */
export function selectionWords(spec: QuantSpec, tensorAmax: number): number[] {
  const { choice, scale } = spec;
  const measure = choice === 'none' ? 0 : { mse: 1, mae: 2, absmax: 3 }[scale.rule as 'mse' | 'mae' | 'absmax'];
  const multiplier = tensorAmax > 0 ? Math.min(Math.fround(1536 / tensorAmax), 3.4028234663852886e38) : 1;
  return [isSearched(spec) ? 1 : 0, measure, real(tensorAmax), real(multiplier)];
}

/** Height of the bands that share a scale: rows are independent where it is 1. */
export function bandRows(spec: QuantSpec): number {
  return spec.granularity.kind === 'tile' ? spec.granularity.rows : 1;
}

/** Width of a tile. */
export function bandCols(spec: QuantSpec, cols: number): number {
  const g = spec.granularity;
  return g.kind === 'group' ? g.size : g.kind === 'tile' ? g.cols : cols;
}

/**
 * Bytes of scratch memory of one thread of quantizeRows: 64 spare bytes, five words a tile (padded to four tiles), code
 * bytes, packed codes and their overrun, for a search its candidates and the values of a tile.
 */
export function kernelScratchBytes(spec: QuantSpec, cols: number): number {
  const tiles = Math.ceil(cols / bandCols(spec, cols));
  const search = selectsScales(spec) ? 16 + searchBytes + 4 * bandCols(spec, cols) : 0;
  const row = cols + packedRowBytes(elementBits(spec.element), cols) + 16;
  return 64 * Math.ceil((64 + 20 * (tiles + 3) + row + search) / 64);
}

/** A float argument word, as its bits. */
const real = (x: number) => f32Bits(x) | 0;

/** Divisor of block maxima and factor of steps, or their counterparts under a library's rule (formats/nvfp4.ts). */
function twoLevels(spec: QuantSpec, tensorScale: number, tensorAmax: number): [divisor: number, factor: number] {
  const encodeScale = tensorAmax > 0 ? Math.min(Math.fround(2688 / tensorAmax), 3.4028234663852886e38) : 1;
  switch (spec.choice === 'none' ? spec.scale.rule : 'absmax') {
    case 'compressed-tensors':
      return [encodeScale, encodeScale];
    case 'transformer-engine':
      return [Math.fround(encodeScale * Math.fround(1 / 6)), Math.fround(1 / encodeScale)];
    default:
      return [elementCodec(spec).max * tensorScale, tensorScale];
  }
}

/** A search starts from the simplest rule of its scales; after a choice a product is rounded, as Transformer Engine does. */
function ruleId({ scale, choice }: QuantSpec): number {
  if (choice !== 'none') return floatRules['transformer-engine'];
  const rule = scale.rule === 'mse' ? (scale.format === 'e8m0' ? 'floor' : 'absmax') : scale.rule;
  return scale.format === 'e8m0'
    ? e8m0Rules[rule as keyof typeof e8m0Rules]
    : floatRules[rule as keyof typeof floatRules];
}

/** Words 4 … 21 of the argument block. `tensorScale`: second-level scale; `tensorAmax`: for the rules of libraries. */
export function specWords(spec: QuantSpec, cols: number, tensorScale: number, tensorAmax = 0): number[] {
  const { element, scale } = spec;
  const codec = elementCodec(spec);
  const p = isMinifloat(element) ? minifloats[element] : undefined;
  const [lowest, highest] = isInt(element) ? signedRange(intBits[element], spec.range === 'restricted') : [0, 0];
  const unsigned = spec.zeroPoint !== 'none';
  const [divisor, factor] = twoLevels(spec, tensorScale, tensorAmax);
  return [
    elementBits(element),
    p ? 1 : 0,
    p?.mantissaBits ?? 0,
    p?.bias ?? 0,
    p ? maxMagnitudeCode(p) : unsigned ? codec.max : highest,
    unsigned ? 0 : lowest,
    bandRows(spec),
    bandCols(spec, cols),
    scaleIds[scale.format as keyof typeof scaleIds],
    ruleId(spec),
    elementEmax(element),
    2 ** (22 - elementMantissaBits(element)),
    real(1 / codec.max),
    real(divisor),
    real(factor),
    real(unsigned ? 1 : integerUnit(spec)),
    real(spec.clip),
    { none: 0, integer: 1, float: 2 }[spec.zeroPoint],
  ];
}
