// Symmetric clipping: what narrow arithmetic does to the ends of an integer range.

import { clippingBlocks, clippingSection, studyClipping } from '../../src/quantize/qsnr/report-clipping.ts';
import { type Claim, factClaim, numberClaim, type Section } from '../../src/report/reproduction.ts';

export function clippingClaims(seed: number): { claims: Claim[]; section: Section } {
  const study = studyClipping(seed);
  const { share, wide, symmetric } = study;
  const sigmas = (r: { bias: number; error: number }) => r.bias / r.error;
  const percent = (v: number) => `${(100 * v).toFixed(3)} %`;
  const ordered = wide.every((r, i) => i === 0 || Math.abs(r.bias) < Math.abs(wide[i - 1].bias));
  const blocks = `blocks of ${clippingBlocks.join(', ')}`;
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
      blocks,
    ),
    factClaim(
      'the range −127…127 does not',
      'within 3 standard errors',
      symmetric.map((r) => sigmas(r).toFixed(1)).join(', '),
      symmetric.every((r) => Math.abs(sigmas(r)) < 3),
      blocks,
    ),
    factClaim(
      'smaller blocks have the larger bias',
      'so',
      wide.map((r) => r.bias.toExponential(1)).join(', '),
      ordered,
    ),
  ];
  return { claims, section: clippingSection(study) };
}
