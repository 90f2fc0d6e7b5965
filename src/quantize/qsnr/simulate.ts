// The QSNR of format pairs on random blocks: over whole signals, and by the crest factor of the blocks.

import { uniformSource } from '../../formats/random.ts';
import { quantizationSnr } from '../statistics.ts';
import { blockCrests, blockErrors } from './crest.ts';
import { type FormatPair, type Granularity, pairFormats } from './pairs.ts';
import { type Signal, signalMatrix, signals } from './signals.ts';

const width = 4096;

export interface PairQsnr {
  /** dB */
  int: number;
  float: number;
}

/** QSNR of a pair on about `samples` values of a signal, rows of 4096. */
export function simulatePair(
  pair: FormatPair,
  granularity: Granularity,
  signal: Signal,
  { samples, seed }: { samples: number; seed: number },
): PairQsnr {
  const rows = Math.max(1, Math.round(samples / width));
  const x = signalMatrix(signal, rows, width, seed);
  const [int, float] = pairFormats(pair, granularity).map((format) => quantizationSnr(x, rows, width, format));
  return { int, float };
}

export interface CrestBin extends PairQsnr {
  /** Mean of the crest factors in the bin. */
  crest: number;
  blocks: number;
}

/**
 * QSNR of a pair at a block size by crest factor: blocks of all signals, each at a random scale (power-of-two scales
 * depend on it), weighted alike and gathered in bins of equal ratio. Bins of fewer than 50 blocks are left out.
 */
export function simulateByCrest(
  pair: FormatPair,
  block: number,
  { samples, seed, bins = 32 }: { samples: number; seed: number; bins?: number },
): CrestBin[] {
  const rows = Math.max(1, Math.round(samples / width / signals.length));
  const formats = pairFormats(pair, block);
  const span = Math.log(Math.sqrt(block));
  const sums = Array.from({ length: bins }, () => ({ crest: 0, blocks: 0, int: 0, float: 0 }));
  for (const [s, signal] of signals.entries()) {
    const x = atRandomScales(signalMatrix(signal, rows, width, seed + s), block, seed + s);
    const crests = blockCrests(x, block);
    const [int, float] = formats.map((format) => blockErrors(x, rows, width, format, block));
    for (let b = 0; b < crests.length; b++) {
      const bin = sums[Math.min(bins - 1, Math.floor((Math.log(crests[b]) / span) * bins))];
      if (!bin || !(int.signal[b] > 0)) continue;
      bin.crest += crests[b];
      bin.blocks++;
      bin.int += int.noise[b] / int.signal[b];
      bin.float += float.noise[b] / float.signal[b];
    }
  }
  const dB = (noise: number, blocks: number) => -10 * Math.log10(noise / blocks);
  return sums
    .filter((bin) => bin.blocks >= 50)
    .map(({ crest, blocks, int, float }) => ({
      crest: crest / blocks,
      blocks,
      int: dB(int, blocks),
      float: dB(float, blocks),
    }));
}

/** Every block times 2^u, u uniform in [0, 1). */
function atRandomScales(x: Float32Array, block: number, seed: number): Float32Array {
  const uniform = uniformSource(seed, 3);
  return x.map((v, i) => v * 2 ** uniform.at(Math.floor(i / block)));
}

/** Where the measured curves cross: the first bin boundary above which the float format leads to the end. */
export function measuredCrossover(bins: readonly CrestBin[]): number | undefined {
  let last = bins.length - 1;
  if (last < 0 || bins[last].int > bins[last].float) return undefined;
  while (last >= 0 && bins[last].int <= bins[last].float) last--;
  if (last < 0) return undefined;
  const [a, b] = [bins[last], bins[last + 1]];
  const [left, right] = [a.int - a.float, b.float - b.int];
  return a.crest + ((b.crest - a.crest) * left) / (left + right);
}
