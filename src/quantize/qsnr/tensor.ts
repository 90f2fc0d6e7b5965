// One tensor under all format pairs: its crest factors, the measured QSNR of integers and floats as it is and after a
// Hadamard rotation of the block size, what theory predicts from the crest factor, and who wins.

import { quantizationSnr } from '../statistics.ts';
import { type CrestFactors, crestFactors, rotated } from './crest.ts';
import { type FormatPair, formatPairs, pairElements, pairFormats, scaleModel } from './pairs.ts';
import type { PairQsnr } from './simulate.ts';
import { predictedQsnr } from './theory.ts';

export interface PairComparison {
  pair: FormatPair;
  crest: CrestFactors;
  crestRotated: CrestFactors;
  measured: PairQsnr;
  rotated: PairQsnr;
  /** At the mean crest factor, with the largest codes that the formats have. */
  predicted: PairQsnr;
}

export interface TensorComparison {
  name: string;
  kind: 'weight' | 'activation';
  rows: number;
  cols: number;
  /** Of whole rows. */
  rowCrest: CrestFactors;
  /** Pairs whose block size divides the row. */
  pairs: PairComparison[];
}

/** The name of the format of the pair that keeps the tensor better. */
export const winner = ({ names }: FormatPair, { int, float }: PairQsnr): string => names[int > float ? 0 : 1];

/** QSNR that theory predicts for a pair at its own block size. */
export function predictedPair(pair: FormatPair, crest: number): PairQsnr {
  const scale = scaleModel(pair, pair.block);
  const [int, float] = pairElements(pair).map((element) => predictedQsnr(element, crest, { scale }));
  return { int, float };
}

/**
 * Compares finite values x [rows, cols]; undefined when all are zero or no block size divides the row. `seed` is that of
 * the rotation's signs.
 */
export function compareTensor(
  name: string,
  kind: TensorComparison['kind'],
  x: Float32Array,
  cols: number,
  seed: number,
): TensorComparison | undefined {
  const rows = x.length / cols;
  const fitting = formatPairs.filter(({ block }) => cols % block === 0);
  if (fitting.length === 0 || x.every((v) => v === 0)) return undefined;
  const turned = new Map([...new Set(fitting.map((p) => p.block))].map((size) => [size, rotated(x, size, seed)]));
  const pairs = fitting.map((pair): PairComparison => {
    const y = turned.get(pair.block) as Float32Array;
    const formats = pairFormats(pair, pair.block);
    const [int, float] = formats.map((format) => quantizationSnr(x, rows, cols, format));
    const [intRotated, floatRotated] = formats.map((format) => quantizationSnr(y, rows, cols, format));
    const crest = crestFactors(x, pair.block);
    return {
      pair,
      crest,
      crestRotated: crestFactors(y, pair.block),
      measured: { int, float },
      rotated: { int: intRotated, float: floatRotated },
      predicted: predictedPair(pair, crest.mean),
    };
  });
  return { name, kind, rows, cols, rowCrest: crestFactors(x, cols), pairs };
}

export interface PairSummary {
  pair: FormatPair;
  tensors: number;
  /** Mean QSNR over tensors, dB. */
  measured: PairQsnr;
  rotated: PairQsnr;
  /** Tensors that the integer format keeps better. */
  intWins: number;
  intWinsRotated: number;
  /** Tensors whose winner theory names rightly from the crest factor. */
  foretold: number;
  /** Upper quartile over tensors of the mean crest factor, as it is and rotated. */
  crest: number;
  crestRotated: number;
}

/** Means and wins of each pair over tensors. */
export function summarize(tensors: readonly TensorComparison[]): PairSummary[] {
  return formatPairs.flatMap((pair) => {
    const all = tensors.flatMap((t) => t.pairs.filter((p) => p.pair.id === pair.id));
    if (all.length === 0) return [];
    const mean = (of: (p: PairComparison) => number) => all.reduce((sum, p) => sum + of(p), 0) / all.length;
    const quartile = (of: (p: PairComparison) => number) =>
      all.map(of).sort((a, b) => a - b)[Math.floor(0.75 * all.length)];
    const count = (of: (p: PairComparison) => boolean) => all.filter(of).length;
    const wins = ({ int, float }: PairQsnr) => int > float;
    return [
      {
        pair,
        tensors: all.length,
        measured: { int: mean((p) => p.measured.int), float: mean((p) => p.measured.float) },
        rotated: { int: mean((p) => p.rotated.int), float: mean((p) => p.rotated.float) },
        intWins: count((p) => wins(p.measured)),
        intWinsRotated: count((p) => wins(p.rotated)),
        foretold: count((p) => wins(p.measured) === wins(p.predicted)),
        crest: quartile((p) => p.crest.mean),
        crestRotated: quartile((p) => p.crestRotated.mean),
      },
    ];
  });
}
