// Format pairs on random signals at every granularity: crest factor, QSNR, what theory says, what a rotation does.

import { quantizationSnr } from '../statistics.ts';
import { crestFactors, rotated } from './crest.ts';
import { type FormatPair, type Granularity, pairElements, pairFormats, scaleModel } from './pairs.ts';
import { type Signal, signalMatrix } from './signals.ts';
import type { PairQsnr } from './simulate.ts';
import { predictedQsnr } from './theory.ts';

const width = 4096;

export interface GranularityRow {
  pair: FormatPair;
  granularity: Granularity;
  signal: Signal;
  /** Mean crest factor of the values that share a scale, as they are and after the rotation. */
  crest: number;
  crestRotated: number;
  measured: PairQsnr;
  /** After a Hadamard rotation of the block size of the pair's own formats. */
  rotated: PairQsnr;
  predicted: PairQsnr;
}

/** One row for a pair, a granularity and a signal of about `samples` values in rows of 4096. */
export function compareGranularity(
  pair: FormatPair,
  granularity: Granularity,
  signal: Signal,
  { samples, seed }: { samples: number; seed: number },
): GranularityRow {
  const rows = Math.max(1, Math.round(samples / width));
  const x = signalMatrix(signal, rows, width, seed);
  const y = rotated(x, pair.block, seed);
  const size = granularity === 'channel' ? width : granularity;
  const formats = pairFormats(pair, granularity);
  const measure = (values: Float32Array): PairQsnr => {
    const [int, float] = formats.map((format) => quantizationSnr(values, rows, width, format));
    return { int, float };
  };
  const crest = crestFactors(x, size).mean;
  const scale = scaleModel(pair, size);
  const [int, float] = pairElements(pair).map((element) => predictedQsnr(element, crest, { scale }));
  return {
    pair,
    granularity,
    signal,
    crest,
    crestRotated: crestFactors(y, size).mean,
    measured: measure(x),
    rotated: measure(y),
    predicted: { int, float },
  };
}
