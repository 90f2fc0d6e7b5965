// How much faster a format is than BF16 on a generation of hardware, for plans.
//
// Ratios of the makers' peak rates of dense matrix products; what a training gains is less, and for small models much
// less. Measure your own and give them: they win. A format without hardware support is computed in BF16 (ratio 1) and
// saves memory only.

import { userError } from '../errors.ts';

/** Speed of a matrix product relative to BF16, by format. */
export type Speeds = Readonly<Record<string, number>>;

export interface Generation {
  id: string;
  examples: string;
  speeds: Speeds;
}

export const generations: readonly Generation[] = [
  { id: 'ampere', examples: 'A100, RTX 3090', speeds: { int8: 2, int4: 4 } },
  { id: 'ada', examples: 'L40S, RTX 4090', speeds: { fp8: 2, int8: 2, int4: 4 } },
  { id: 'hopper', examples: 'H100, H200', speeds: { fp8: 2, int8: 2 } },
  { id: 'blackwell', examples: 'B200, RTX 5090', speeds: { fp8: 2, mxfp4: 4, int8: 2 } },
  { id: 'cdna3', examples: 'MI300X', speeds: { fp8: 2, int8: 2 } },
  { id: 'cdna4', examples: 'MI355X', speeds: { fp8: 2, mxfp4: 4, int8: 2 } },
];

/** @throws SubbyteError `unknown-hardware` with the generations that there are */
export function findGeneration(id: string): Generation {
  const found = generations.find((g) => g.id === id);
  if (found) return found;
  throw userError({
    code: 'unknown-hardware',
    op: 'laws plan',
    problem: 'there is no such hardware generation',
    got: JSON.stringify(id.slice(0, 64)),
    expected: generations.map((g) => `${g.id} (${g.examples})`).join(', '),
    fix: 'or give speed-ups with --speed fp8=2,mxfp4=3.5',
  });
}
