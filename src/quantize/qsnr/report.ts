// Tables and plots of what was compared.

import { chart } from '../../plot/plot.ts';
import type { Section } from '../../report/reproduction.ts';
import type { PairQsnr } from './simulate.ts';
import { predictedPair, summarize, type TensorComparison, winner } from './tensor.ts';

const dB = ({ int, float }: PairQsnr) => `${int.toFixed(2)} / ${float.toFixed(2)}`;

/** Means and wins by pair. */
export function summarySection(title: string, tensors: readonly TensorComparison[]): Section {
  return {
    title,
    text: 'Mean QSNR in dB over tensors, integers / floats; tensors that the integer format keeps better, as they are and after a Hadamard rotation of the block size; κ: upper quartile over tensors of the mean crest factor; foretold: tensors whose winner the closed form names from κ alone.',
    table: {
      columns: [
        'formats',
        'tensors',
        'κ',
        'QSNR',
        'INT wins',
        'κ rotated',
        'QSNR rotated',
        'INT wins rotated',
        'foretold',
      ],
      rows: summarize(tensors).map((s) => [
        s.pair.names.join(' / '),
        String(s.tensors),
        s.crest.toFixed(2),
        dB(s.measured),
        String(s.intWins),
        s.crestRotated.toFixed(2),
        dB(s.rotated),
        String(s.intWinsRotated),
        String(s.foretold),
      ]),
    },
  };
}

/** Which format of each pair wins on each tensor. */
export function tensorSection(title: string, tensors: readonly TensorComparison[]): Section {
  return {
    title,
    text: 'Winner and its lead in dB; in brackets after rotation.',
    table: {
      columns: ['tensor', 'κ row', 'κ 32', 'κ 16', '8 bits', '6 bits', '4 bits, MX', '4 bits, NV'],
      rows: tensors.map((t) => {
        const of = (id: string) => t.pairs.find((p) => p.pair.id === id);
        const lead = (q: PairQsnr) => Math.abs(q.int - q.float).toFixed(2);
        const result = (id: string) => {
          const p = of(id);
          if (!p) return '';
          return `${winner(p.pair, p.measured)} ${lead(p.measured)} (${winner(p.pair, p.rotated)} ${lead(p.rotated)})`;
        };
        return [
          t.name,
          t.rowCrest.mean.toFixed(2),
          of('mx8')?.crest.mean.toFixed(2) ?? '',
          of('nv4')?.crest.mean.toFixed(2) ?? '',
          ...['mx8', 'mx6', 'mx4', 'nv4'].map(result),
        ];
      }),
    },
  };
}

/** QSNR of a pair on every tensor by its crest factor, with the closed forms. */
export function crestPlot(title: string, name: string, id: string, tensors: readonly TensorComparison[]): Section[] {
  const all = tensors.flatMap((t) => t.pairs.filter((p) => p.pair.id === id).map((p) => ({ ...p, kind: t.kind })));
  if (all.length === 0) return [];
  const { pair } = all[0];
  const crests = all.flatMap((p) => [p.crest.mean, p.crestRotated.mean]);
  const [low, high] = [Math.min(...crests), Math.max(...crests)];
  const line = Array.from({ length: 40 }, (_, i) => Math.max(1, low + ((high - low) * i) / 39));
  const points = (pick: 'int' | 'float') =>
    all.flatMap((p) => [[p.crest.mean, p.measured[pick]] as const, [p.crestRotated.mean, p.rotated[pick]] as const]);
  const spec = chart({
    title,
    subtitle: 'points: tensors, as they are and rotated; lines: closed forms with exact codes',
    x: { title: `mean crest factor of blocks of ${pair.block}` },
    y: { title: 'QSNR, dB' },
    series: (['int', 'float'] as const).flatMap((pick, i) => [
      { name: pair.names[i], points: line.map((c) => [c, predictedPair(pair, c)[pick]] as const) },
      { name: pair.names[i], style: 'points' as const, points: points(pick) },
    ]),
  });
  return [{ title, plot: { name, spec } }];
}

/** All sections about a model. */
export function modelSections(
  model: string,
  weights: readonly TensorComparison[],
  inputs: readonly TensorComparison[],
): Section[] {
  const both = [...weights, ...inputs];
  return [
    ...(weights.length > 0 ? [summarySection(`Weights of ${model}`, weights)] : []),
    ...(inputs.length > 0 ? [summarySection(`Inputs of the linear layers of ${model}`, inputs)] : []),
    ...['mx8', 'mx6', 'mx4', 'nv4'].flatMap((id) => {
      const pair = both.flatMap((t) => t.pairs).find((p) => p.pair.id === id)?.pair;
      return pair ? crestPlot(`${pair.names.join(' and ')} on ${model}`, `model-${id}`, id, both) : [];
    }),
    ...(weights.length > 0 ? [tensorSection('Weights one by one', weights)] : []),
    ...(inputs.length > 0 ? [tensorSection('Inputs one by one', inputs)] : []),
  ];
}
