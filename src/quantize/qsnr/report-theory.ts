// Tables and plots of format pairs without a model: crossovers, curves by crest factor, granularities.

import { chart } from '../../plot/plot.ts';
import type { Section } from '../../report/reproduction.ts';
import type { GranularityRow } from './granularity.ts';
import { type FormatPair, formatPairs, pairElements, scaleModel } from './pairs.ts';
import { type CrestBin, measuredCrossover, type PairQsnr, simulateByCrest } from './simulate.ts';
import { crossover, predictedQsnr, type TheoryOptions } from './theory.ts';

export interface CrestCurve {
  pair: FormatPair;
  block: number;
  bins: CrestBin[];
  /** Crest factors of the crossings; undefined where there is none. */
  simulated?: number;
  exact?: number;
  printed?: number;
}

/**
 * A pair by crest factor. A block of g values has no crest factor above √g: 8-bit formats cross beyond that of their own
 * blocks, so theirs are taken at 256.
 */
export function crestCurve(pair: FormatPair, options: { samples: number; seed: number }): CrestCurve {
  const isWide = pair.published.crest > Math.sqrt(pair.block);
  const block = isWide ? 256 : pair.block;
  const bins = simulateByCrest(pair, block, {
    ...options,
    samples: isWide ? Math.max(4 * options.samples, 2 ** 22) : options.samples,
  });
  const [int, float] = pairElements(pair);
  const crossing = (constant: TheoryOptions['constant']) =>
    crossover(int, float, { scale: scaleModel(pair, block), constant })?.crest;
  return {
    pair,
    block,
    bins,
    simulated: measuredCrossover(bins),
    exact: crossing('exact'),
    printed: crossing('printed'),
  };
}

/** Closed forms as lines, Monte Carlo as points. */
export function curveSection({ pair, block, bins, simulated, exact }: CrestCurve): Section {
  const [int, float] = pairElements(pair);
  const options = { scale: scaleModel(pair, block) };
  const title = `${pair.names.join(' and ')} by crest factor`;
  const lines = pairElements(pair).map((element, i) => ({
    name: pair.names[i],
    points: bins.map(({ crest }) => [crest, predictedQsnr(element, crest, options)] as const),
  }));
  const points = [
    { name: pair.names[0], style: 'points' as const, points: bins.map((b) => [b.crest, b.int] as const) },
    { name: pair.names[1], style: 'points' as const, points: bins.map((b) => [b.crest, b.float] as const) },
  ];
  const spec = chart({
    title: `${title}, blocks of ${block}`,
    subtitle: 'lines: closed forms with exact codes; points: Monte Carlo',
    x: { title: 'crest factor κ = max|x| / RMS(x)' },
    y: { title: 'QSNR, dB' },
    series: [...lines, ...points],
    rules: exact === undefined ? [] : [{ axis: 'x', at: exact, label: `κ* ${exact.toFixed(2)}` }],
  });
  const own = crossover(int, float, { scale: scaleModel(pair, pair.block) })?.crest ?? Number.POSITIVE_INFINITY;
  const never =
    own > Math.sqrt(pair.block)
      ? ` A block of ${pair.block} cannot have a crest factor above √${pair.block} = ${Math.sqrt(pair.block).toFixed(2)}, so at its own block size ${pair.names[0]} is better whatever the data; blocks of ${block} show the crossing.`
      : '';
  return {
    title,
    text: `Crossing of the simulated blocks: ${shown(simulated)}; of the closed forms with exact codes: ${shown(exact)}.${never}`,
    plot: { name: `crest-${pair.id}`, spec },
  };
}

const shown = (value: number | undefined) => value?.toFixed(2) ?? 'none';

export function crossoverSection(curves: readonly CrestCurve[]): Section {
  return {
    title: 'Crossovers',
    text: 'Crest factor below which the integer format keeps more of a block. Published, the closed forms with the printed constant, with the largest codes that the formats have, and where simulated blocks cross.',
    table: {
      columns: ['formats', 'block', 'published', 'closed form, printed', 'closed form, exact', 'simulated'],
      rows: curves.map((c) => [
        c.pair.names.join(' / '),
        String(c.block),
        c.pair.published.crest.toFixed(2),
        shown(c.printed),
        shown(c.exact),
        shown(c.simulated),
      ]),
    },
  };
}

const both = ({ int, float }: PairQsnr) => `${int.toFixed(2)} / ${float.toFixed(2)}`;

/** A table for each pair: granularities and signals. */
export function granularitySections(rows: readonly GranularityRow[]): Section[] {
  return formatPairs.flatMap(({ id, names, block, scale }) => {
    const own = rows.filter((r) => r.pair.id === id);
    if (own.length === 0) return [];
    return [
      {
        title: `${names.join(' and ')} by granularity`,
        text: `QSNR in dB, INT / FP. Scales: ${scale === 'e8m0' ? 'powers of two, rounded up' : 'E4M3 with a scale for the tensor'}. Rotated: Hadamard of ${block}. Theory: closed forms at the mean crest factor with exact codes.`,
        table: {
          columns: [
            'granularity',
            'signal',
            'κ',
            'QSNR',
            'theory',
            'wins',
            'κ rotated',
            'QSNR rotated',
            'wins rotated',
          ],
          rows: own.map((r) => [
            String(r.granularity),
            r.signal,
            r.crest.toFixed(2),
            both(r.measured),
            both(r.predicted),
            names[r.measured.int > r.measured.float ? 0 : 1],
            r.crestRotated.toFixed(2),
            both(r.rotated),
            names[r.rotated.int > r.rotated.float ? 0 : 1],
          ]),
        },
      },
    ];
  });
}
