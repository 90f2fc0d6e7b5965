// The loss curve of a training, from its run log, as SVG and PNG beside it.

import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { chart, type PlotSpec, type Series } from '../plot/plot.ts';
import { type Drawn, writePlots } from '../plot/render.ts';

/** Loss of the steps and of the validations over tokens; undefined for a log without steps. */
export function lossCurve(log: string, title: string): PlotSpec | undefined {
  const entries = log
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as Record<string, unknown>);
  const start = entries.find(({ kind }) => kind === 'start' || kind === 'resume');
  const perStep = Number(start?.tokensPerStep ?? Number.NaN);
  const points = (kind: string, value: string): Series['points'] =>
    entries.filter((e) => e.kind === kind).map((e) => [Number(e.step) * perStep, Number(e[value])]);
  const steps = points('step', 'loss');
  if (steps.length === 0) return undefined;
  const validations = points('validation', 'nll');
  return chart({
    title,
    x: { title: 'tokens', format: '~s' },
    y: { title: 'loss, nats a token' },
    series: [
      { name: 'training', points: steps },
      ...(validations.length > 0 ? [{ name: 'validation', points: validations, style: 'points' as const }] : []),
    ],
  });
}

/** Draws `loss.svg` and `loss.png` beside the log: none for a log without steps, or without the libraries that draw. */
export async function writeLossCurve(log: string): Promise<Drawn> {
  const folder = path.dirname(log);
  const spec = lossCurve(await readFile(log, 'utf8'), `Loss of ${path.basename(folder)}`);
  if (!spec) return { files: [] };
  return writePlots(
    'train',
    ['loss.svg', 'loss.png'].map((name) => ({ spec, file: path.join(folder, name) })),
  );
}
