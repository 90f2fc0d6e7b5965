// Symmetric clipping: how often narrow arithmetic leaves the range, and what that does to a mean of gradients.

import { chart } from '../../src/plot/plot.ts';
import { arithmetics, beyondRange, clippingBias } from '../../src/quantize/qsnr/clipping.ts';
import { type Claim, factClaim, numberClaim, type Section } from '../../src/report/reproduction.ts';

const rows = [1, 4, 16, 64, 256, 1024, 4096, 16384];
const blocks = [16, 32, 64, 128, 256];

export function clippingClaims(seed: number): { claims: Claim[]; section: Section } {
  const share = Object.fromEntries(arithmetics.map((a) => [a, beyondRange(a, 2 ** 20, seed)]));
  const all = blocks.flatMap((block) =>
    ([-128, -127] as const).map((lowest) => clippingBias(block, lowest, { rows, seed })),
  );
  const wide = all.filter((r) => r.lowest === -128);
  const symmetric = all.filter((r) => r.lowest === -127);
  const sigmas = (r: { bias: number; error: number }) => r.bias / r.error;
  const percent = (v: number) => `${(100 * v).toFixed(3)} %`;
  const ordered = wide.every((r, i) => i === 0 || Math.abs(r.bias) < Math.abs(wide[i - 1].bias));
  const claims = [
    numberClaim('BF16 arithmetic: block maxima that round to ±128', 0.1682, share.bf16, {
      tolerance: 0.002,
      print: percent,
    }),
    numberClaim('float16 arithmetic: the same', 0.0002, share.f16, { tolerance: 0.0001, print: percent }),
    factClaim('float32 arithmetic: the same', 'none', percent(share.f32), share.f32 === 0),
    factClaim(
      'the range −128…127 biases int8 with BF16 scales at every block size',
      'more than 4 standard errors',
      wide.map((r) => sigmas(r).toFixed(1)).join(', '),
      wide.every((r) => sigmas(r) < -4),
      `blocks of ${blocks.join(', ')}`,
    ),
    factClaim(
      'the range −127…127 does not',
      'within 3 standard errors',
      symmetric.map((r) => sigmas(r).toFixed(1)).join(', '),
      symmetric.every((r) => Math.abs(sigmas(r)) < 3),
      `blocks of ${blocks.join(', ')}`,
    ),
    factClaim(
      'smaller blocks have the larger bias',
      'so',
      wide.map((r) => r.bias.toExponential(1)).join(', '),
      ordered,
    ),
  ];
  const drawn = all.filter((r) => r.block === 16 || r.block === 256);
  const spec = chart({
    title: 'Error of the mean of T quantized gradients, int8 with BF16 scales',
    subtitle: 'random errors average out as 1/√T; the bias of the range −128…127 stays',
    x: { title: 'T, rows averaged', scale: 'log' },
    y: { title: 'RMS error over σ of a row', scale: 'log' },
    series: drawn.map((r) => ({
      name: `${r.lowest}…127, blocks of ${r.block}`,
      style: r.lowest === -127 ? 'dashed' : 'line',
      points: rows.map((t, i) => [t, r.meanError[i]] as const),
    })),
  });
  const section: Section = {
    title: 'Symmetric clipping',
    text: 'Gaussian rows of 256 values, BF16, quantized to int8 with BF16 scales and quotients. Bias: mean of x̂ − x in standard deviations of x. This is the error of a sum of gradients, not a training run.',
    table: {
      columns: [
        'block',
        'bias, −128…127',
        'bias, −127…127',
        'standard error',
        `error at T = ${rows[rows.length - 1]}, −128…127`,
        '−127…127',
      ],
      rows: blocks.map((block, i) => [
        String(block),
        wide[i].bias.toExponential(2),
        symmetric[i].bias.toExponential(2),
        wide[i].error.toExponential(1),
        ...[wide[i], symmetric[i]].map((r) => r.meanError[rows.length - 1].toExponential(2)),
      ]),
    },
    plot: { name: 'clipping', spec },
  };
  return { claims, section };
}
