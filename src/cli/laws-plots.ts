// Plots of the laws commands, in the field's axes.

import type { Bootstrap } from '../laws/bootstrap.ts';
import { predictionInterval } from '../laws/bootstrap.ts';
import type { Fit } from '../laws/fit.ts';
import type { Speeds } from '../laws/hardware.ts';
import { type Observation, type Point, vectorOf } from '../laws/law.ts';
import { bestScheme, type PlanModel, type Scheme, schemeName } from '../laws/plan.ts';
import { chart, logSpace, type PlotSpec, regionMap, type Series } from '../plot/plot.ts';

const mostCurves = 9;

/** Loss (or gap) by tokens: a curve and its runs for each size and format, with the bootstrap interval as a band. */
export function fitPlot(fitted: Fit, resampled: Bootstrap | undefined): PlotSpec {
  const { law, runs, values } = fitted;
  const names = new Map<string, Observation[]>();
  for (const run of runs) {
    const name = seriesName(run);
    names.set(name, [...(names.get(name) ?? []), run]);
  }
  const chosen = [...names].sort((a, b) => b[1].length - a[1].length).slice(0, mostCurves);
  const tokens = runs.map((r) => r.d);
  const line = logSpace(Math.min(...tokens) / 1.2, Math.max(...tokens) * 1.2, 40);
  const at = vectorOf(law, values);
  const series = chosen.flatMap(([name, members]): Series[] => {
    const place = (d: number): Point => ({ ...members[0], d });
    return [
      {
        name,
        points: line.map((d) => [d, law.evaluate(at, place(d))] as const),
        ...(resampled && { band: line.map((d) => predictionInterval(resampled, place(d))) }),
      },
      { name, style: 'points', points: members.map((r) => [r.d, r.observed] as const) },
    ];
  });
  const left = names.size - chosen.length;
  return chart({
    title: `${law.id}: ${runs.length} runs and the fit`,
    subtitle: left > 0 ? `the ${mostCurves} largest of ${names.size} series` : 'points: runs; lines: the fit',
    x: { title: 'D, training tokens', scale: 'log' },
    y: { title: law.predicts === 'gap' ? 'gap, nats a token' : 'loss, nats a token' },
    series,
  });
}

function seriesName(run: Observation): string {
  const format = [run.forward, run.backward].filter((f) => f && !/^bf16$/i.test(f)).join(':');
  const group = run.group === undefined ? '' : ` G ${run.group}`;
  const layout = run.exponentBits === undefined ? '' : ` E${run.exponentBits}M${run.mantissaBits} B ${run.block}`;
  return `${humanSize(run.n)}${format ? ` ${format}` : ''}${group}${layout}`;
}

/** `30M`, `1.5B` */
export function humanSize(n: number): string {
  const [unit, scale] = n >= 999.5e9 ? ['T', 1e12] : n >= 999.5e6 ? ['B', 1e9] : ['M', 1e6];
  return `${Number((n / scale).toPrecision(3))}${unit}`;
}

/** Which scheme is best at each size and ratio of tokens, at equal costs of inference and training. */
export function regionPlot(model: PlanModel, schemes: readonly Scheme[], speeds: Speeds, hardware: string): PlotSpec {
  const xs = logSpace(1e7, 1e12, 60);
  const ys = logSpace(5, 5000, 60);
  const regionAt = (n: number, ratio: number) => schemeName(bestScheme(model, schemes, speeds, n, ratio));
  const winners = new Set(xs.flatMap((n) => ys.map((ratio) => regionAt(n, ratio))));
  return regionMap({
    title: 'Which format is best at equal cost (forward:backward)',
    subtitle: `speed-ups over BF16: ${hardware}; budgets in units of BF16`,
    x: { title: 'N that the inference budget allows in BF16' },
    y: { title: 'D/N of the training budget in BF16' },
    xs,
    ys,
    names: schemes.map(schemeName).filter((name) => winners.has(name)),
    regionAt,
  });
}
