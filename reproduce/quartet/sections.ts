// Tables and plots of the study.

import { chart } from '../../src/plot/plot.ts';
import type { Section } from '../../src/report/reproduction.ts';
import { deviation, type Interval, interval } from '../../src/report/statistics.ts';
import { recipes } from '../../src/train/recipes/registry.ts';
import type { DepthScheme } from './depth.ts';
import type { FinishedRun } from './finished.ts';
import type { Measured } from './numeric-claims.ts';
import { Losses } from './orderings.ts';
import { baseline, type Settings } from './settings.ts';
import type { Study } from './study.ts';

const withError = ({ mean, error }: Interval, print = (v: number) => v.toFixed(4)) =>
  Number.isNaN(error) ? print(mean) : `${print(mean)} ± ${print(error)}`;

/** Final losses, and the gap to the baseline. */
export function lossSection(settings: Settings, study: Study): Section {
  const losses = new Losses(study.finished, settings.steps);
  const rows = settings.schemes.flatMap((scheme) => {
    const runs = losses.of(scheme);
    const kept = runs.flatMap(({ loss }) => loss ?? []);
    if (runs.length === 0) return [];
    const gaps = losses.gap(scheme);
    const rate = runs.filter((run) => run.seconds > 0).map((run) => run.tokens / run.seconds);
    return [
      [
        scheme,
        recipes[scheme].doc,
        String(runs.length),
        kept.length > 0 ? interval(kept).mean.toFixed(4) : '',
        kept.length > 1 ? deviation(kept).toFixed(4) : '',
        scheme === baseline || gaps.length === 0 ? '' : withError(interval(gaps)),
        String(runs.length - kept.length),
        rate.length > 0 ? Math.round(interval(rate).mean).toLocaleString('en') : '',
        `${((runs[0].memoryBytes || Number.NaN) / 1e6).toFixed(1)} MB`.replace(/^NaN.*/, ''),
      ],
    ];
  });
  return {
    title: 'Validation losses',
    text: `Nats a token at the end of ${settings.steps} steps. Spread: standard deviation over seeds. Gap to ${baseline}: mean of the differences by seed ± its standard error. Rates are those of the machine as it was loaded, steps alone.`,
    table: {
      columns: [
        'scheme',
        'what it is',
        'seeds',
        'loss',
        'spread',
        `gap to ${baseline}`,
        'diverged',
        'tokens a second',
        'memory',
      ],
      rows,
    },
  };
}

/** Every training by itself. */
export function runSection(study: Study): Section {
  const sorted = study.finished.toSorted((a, b) => a.seed - b.seed || b.steps - a.steps);
  return {
    title: 'Trainings',
    table: {
      columns: ['scheme', 'seed', 'steps', 'validation loss', 'seconds', 'device'],
      rows: sorted.map((run) => [
        run.scheme,
        String(run.seed),
        String(run.steps),
        run.loss?.toFixed(4) ?? `diverged: ${run.reason}`,
        run.seconds.toFixed(1),
        run.device,
      ]),
    },
  };
}

/** The gap to the baseline's training loss on the same batches, along the training. */
export function gapSection(settings: Settings, study: Study): Section {
  const long = study.finished.filter((run) => run.steps === settings.steps && run.curve.length > 0);
  const base = new Map(long.filter((run) => run.scheme === baseline).map((run) => [run.seed, run.curve]));
  const series = settings.schemes.flatMap((scheme) => {
    const pairs = long.filter((run) => run.scheme === scheme && base.has(run.seed));
    if (scheme === baseline || pairs.length === 0) return [];
    return [{ name: scheme, points: gapPoints(pairs, base, study.tokensPerStep) }];
  });
  const spec = chart({
    title: `Training loss above ${baseline}`,
    subtitle: 'same first weights, same batches; means over stretches of steps and seeds',
    x: { title: 'tokens' },
    y: { title: 'nats a token' },
    series,
    rules: [{ axis: 'y', at: 0, label: baseline }],
  });
  return { title: 'Gaps along the training', plot: { name: 'gaps', spec } };
}

function gapPoints(pairs: readonly FinishedRun[], base: ReadonlyMap<number, readonly number[]>, tokensPerStep: number) {
  const { curve, steps } = pairs[0];
  return curve.map((_, i) => {
    const gap = pairs.reduce((sum, run) => sum + run.curve[i] - (base.get(run.seed)?.[i] ?? Number.NaN), 0);
    return [((i + 1) / curve.length) * steps * tokensPerStep, gap / pairs.length] as const;
  });
}

const small = (v: number) => v.toExponential(2);

export function numericSections({ gaussian, averaged, product, bias, depths }: Measured): Section[] {
  const curve = (title: string, subtitle: string, rows: Measured['averaged'], x: string) =>
    chart({
      title,
      subtitle,
      x: { title: x, scale: 'log' },
      y: { title: 'relative squared error', scale: 'log' },
      series: rows.map((row) => ({ name: row.name, points: row.curve.map((p) => [p.count, p.error] as const) })),
    });
  const names = Object.keys(depths) as DepthScheme[];
  const alignments = chart({
    title: 'How much of a gradient is left on its way down',
    subtitle: 'backward products rounded, forward in f32; bands: 90 % over windows',
    x: { title: 'projections below the loss' },
    y: { title: 'alignment with the f32 gradient' },
    series: names.map((name) => {
      const found = depths[name].map(({ alignment }) => interval(alignment));
      return {
        name,
        points: found.map((v, i) => [i, v.mean] as const),
        band: found.map((v) => [v.low, v.high] as const),
      };
    }),
  });
  return [
    {
      title: 'Errors on Gaussian data',
      text: 'Groups of 32 with amplitudes spread evenly over an octave. Clipped: values at or beyond the largest level.',
      table: {
        columns: ['quantizer', 'error', 'expected', 'misalignment', 'clipped'],
        rows: gaussian.map((row) => [
          row.name,
          withError(row.mse, small),
          small(row.expected),
          withError(row.misalignment, small),
          `${(100 * row.clipped).toFixed(2)} %`,
        ]),
      },
    },
    {
      title: 'Bias of rounding',
      plot: {
        name: 'rounding-bias',
        spec: curve(
          'Means of many roundings of the same values',
          'random signs and a Hadamard transform of 32 each time',
          [...averaged, { name: 'product of two SR values', curve: product }],
          'B, roundings',
        ),
      },
    },
    {
      title: 'Bias of the weight gradient',
      plot: {
        name: 'gradient-bias',
        spec: curve(
          'Means of many weight gradients of one batch',
          'rows of x and e have a mean in common',
          bias,
          'B, backward passes',
        ),
      },
    },
    {
      title: 'Gradients by depth',
      text: 'Cosine / alignment with the f32 gradient at the output of each projection onto the residual stream of the model that ships, from the last to the first; means over tokens and windows.',
      table: {
        columns: ['layer', ...names],
        rows: depths[names[0]].map(({ layer }, i) => [
          layer.replace('model.layers.', ''),
          ...names.map((name) => {
            const { cosine, alignment } = depths[name][i];
            return `${interval(cosine).mean.toFixed(4)} / ${interval(alignment).mean.toFixed(4)}`;
          }),
        ]),
      },
      plot: { name: 'depth', spec: alignments },
    },
  ];
}

/** Schemes of the paper's comparison that nothing here trains. */
export const notTrained: Section = {
  title: 'What is not checked',
  text: 'Ordering 5 compares Quartet with LUQ, LSS, Jetfire and HALO in FP4. The toolkit has no recipes of these in four bits, so nothing is said about it. Forward Eden and the losses of the paper (C4, 30M parameters and more, at least 25 tokens a parameter) are out of reach of this study too: it compares orderings and gaps, not losses.',
};
