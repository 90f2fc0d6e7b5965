// The experiment on symmetric clipping with its table and plot.

import { chart } from '../../plot/plot.ts';
import type { Section } from '../../report/reproduction.ts';
import { type Arithmetic, arithmetics, beyondRange, type ClippingBias, clippingBias } from './clipping.ts';

const rows = [1, 4, 16, 64, 256, 1024, 4096, 16384];
export const clippingBlocks = [16, 32, 64, 128, 256];

export interface ClippingStudy {
  /** Share of block maxima that round to ±128, by arithmetic. */
  share: Record<Arithmetic, number>;
  /** By block: with the range −128…127, and −127…127. */
  wide: ClippingBias[];
  symmetric: ClippingBias[];
}

export function studyClipping(seed: number): ClippingStudy {
  const of = (lowest: -127 | -128) => clippingBlocks.map((block) => clippingBias(block, lowest, { rows, seed }));
  const share = Object.fromEntries(arithmetics.map((a) => [a, beyondRange(a, 2 ** 20, seed)]));
  return { share: share as Record<Arithmetic, number>, wide: of(-128), symmetric: of(-127) };
}

export function clippingSection({ share, wide, symmetric }: ClippingStudy): Section {
  const range = (lowest: number) => `−${-lowest}…127`;
  const drawn = [...wide, ...symmetric].filter((r) => r.block === 16 || r.block === 256);
  const spec = chart({
    title: 'Error of the mean of T quantized gradients, int8 with BF16 scales',
    subtitle: 'random errors average out as 1/√T; the bias of the range −128…127 stays',
    x: { title: 'T, rows averaged', scale: 'log' },
    y: { title: 'RMS error over σ of a row', scale: 'log' },
    series: drawn.map((r) => ({
      name: `${range(r.lowest)}, blocks of ${r.block}`,
      style: r.lowest === -127 ? 'dashed' : 'line',
      points: rows.map((t, i) => [t, r.meanError[i]] as const),
    })),
  });
  const last = rows.length - 1;
  const percent = (v: number) => `${(100 * v).toFixed(3)} %`;
  return {
    title: 'Symmetric clipping',
    text: `Block maxima that round to ±128 with scale max|x|/127: ${arithmetics.map((a) => `${percent(share[a])} in ${a}`).join(', ')}. Below: Gaussian rows of 256 values in BF16, quantized to int8 with BF16 scales and quotients; bias: mean of x̂ − x in standard deviations of x. This is the error of a sum of gradients, not a training run.`,
    table: {
      columns: [
        'block',
        'bias, −128…127',
        'bias, −127…127',
        'standard error',
        `error at T = ${rows[last]}, −128…127`,
        '−127…127',
      ],
      rows: wide.map((r, i) => [
        String(r.block),
        r.bias.toExponential(2),
        symmetric[i].bias.toExponential(2),
        r.error.toExponential(1),
        r.meanError[last].toExponential(2),
        symmetric[i].meanError[last].toExponential(2),
      ]),
    },
    plot: { name: 'clipping', spec },
  };
}
