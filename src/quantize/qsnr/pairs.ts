// The pairs of integer and float formats that are compared, and what to call them at each granularity.

import type { MinifloatElement, QuantSpec } from '../../formats/format.ts';
import { parseFormat } from '../../formats/registry.ts';
import { minifloats } from '../../formats/table.ts';
import type { Element, ScaleModel } from './theory.ts';

export interface FormatPair {
  /** `mx8`, `mx6`, `mx4`, `nv4` */
  readonly id: string;
  /** Names of the pair's formats in the literature. */
  readonly names: readonly [int: string, float: string];
  readonly bits: number;
  readonly element: MinifloatElement;
  /** Block size of the pair's own formats. */
  readonly block: number;
  readonly scale: 'e8m0' | 'e4m3';
  /** Crest factor and QSNR of the published crossover (arXiv 2510.25602, figure 3). */
  readonly published: { readonly crest: number; readonly qsnr: number };
}

export const formatPairs: readonly FormatPair[] = [
  pair('mx8', ['MXINT8', 'MXFP8'], 8, 'e4m3', 32, 'e8m0', 7.55, 31.86),
  pair('mx6', ['MXINT6', 'MXFP6'], 6, 'e2m3', 32, 'e8m0', 1.96, 31.54),
  pair('mx4', ['MXINT4', 'MXFP4'], 4, 'e2m1', 32, 'e8m0', 2.04, 19.14),
  pair('nv4', ['NVINT4', 'NVFP4'], 4, 'e2m1', 16, 'e4m3', 2.39, 21.14),
];

function pair(
  id: string,
  names: readonly [string, string],
  bits: number,
  element: MinifloatElement,
  block: number,
  scale: 'e8m0' | 'e4m3',
  crest: number,
  qsnr: number,
): FormatPair {
  return { id, names, bits, element, block, scale, published: { crest, qsnr } };
}

/** Elements that share a scale: a number along K, or the whole row. */
export type Granularity = number | 'channel';

/**
 * The two formats of a pair with a granularity other than its own, as `formats` knows them. Power-of-two scales are
 * rounded up, so that nothing is clipped; E4M3 scales have a second level for the tensor.
 */
export function pairFormats({ bits, element, scale }: FormatPair, granularity: Granularity): [QuantSpec, QuantSpec] {
  const where = granularity === 'channel' ? 'channel' : `g${granularity}`;
  const how = scale === 'e8m0' ? 'e8m0s-rceil' : 'e4m3s-twolevel';
  const parse = (base: string) => parseFormat(`${base}-${where}-${how}`) as QuantSpec;
  return [parse(`int${bits}`), parse(`fp${minifloats[element].bits}-${element}`)];
}

export function pairElements({ bits, element }: FormatPair): [Element, Element] {
  const { mantissaBits, bias, max } = minifloats[element];
  return [
    { kind: 'int', bits },
    { kind: 'float', mantissaBits, bias, max },
  ];
}

/** ρ that the published figures take for the mean overhead of each scale format. */
export const publishedOverhead = { e8m0: 1.5, e4m3: 1.05 } as const;

export function scaleModel(
  { scale }: FormatPair,
  block: number,
  overhead: number = publishedOverhead[scale],
): ScaleModel {
  return scale === 'e8m0' ? { overhead } : { overhead, exactMaximumOf: block };
}
