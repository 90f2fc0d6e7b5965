// All laws by name, with their published coefficients.

import { userError } from '../errors.ts';
import { chinchilla, chinchillaPublished, chinchillaRefit } from './chinchilla.ts';
import { floatingPoint, floatingPointPublished } from './floating-point.ts';
import type { Coefficients, Law } from './law.ts';
import { appleBase, outerExponent, quartetBase, quartetBaseLater } from './outer-exponent.ts';
import { precisionLaw } from './precision.ts';
import { qatGap, qatPublished } from './qat.ts';
import { quartetLaw } from './quartet.ts';
import { questLaw, questPublished } from './quest.ts';

export interface Schemes {
  /** Forward schemes with an efficiency on N, backward schemes with one on D; for the laws that have them. */
  forward?: readonly string[];
  backward?: readonly string[];
}

export interface LawEntry {
  id: string;
  summary: string;
  /** Whether the law has efficiencies, which have to be named. */
  schemes: readonly (keyof Schemes)[];
  build(schemes: Schemes): Law;
  /** Whether more tokens may raise what the law predicts: then a rise is no sign of divergence. */
  rises: boolean;
  /** By name; the first is the default. */
  published: Readonly<Record<string, Coefficients>>;
}

const plain = (law: Law, summary: string, published: LawEntry['published'], rises = false): LawEntry => ({
  id: law.id,
  summary,
  schemes: [],
  build: () => law,
  rises,
  published,
});

/** Quartet's base with the two MXFP4 schemes of its recipe. */
const quartetPublished: Coefficients = {
  law: 'quartet',
  source: 'arXiv 2505.14669: base of 23 BF16 runs, efficiencies of 21 runs each over it (MXFP4, groups of 32)',
  values: { ...quartetBase.values, 'effN(QuEST)': 0.6478, 'effD(AlbertTsengQuantizer)': 0.8918 },
};

export const laws: readonly LawEntry[] = [
  plain(chinchilla, 'loss by size and tokens', { refit: chinchillaRefit, published: chinchillaPublished }),
  plain(outerExponent, 'the same with an outer exponent: the best base for the others', {
    quartet: quartetBase,
    'quartet-later': quartetBaseLater,
    apple: appleBase,
  }),
  {
    id: 'quartet',
    summary: 'formats as efficiencies: forward on N, backward on D',
    schemes: ['forward', 'backward'],
    rises: false,
    build: ({ forward = [], backward = [] }) => quartetLaw(forward, backward),
    published: { mxfp4: quartetPublished },
  },
  {
    id: 'quest',
    summary: 'bits of weights and activations as efficiencies on N',
    schemes: ['forward'],
    rises: false,
    build: ({ forward = [] }) => questLaw(forward),
    published: { hadamard: questPublished },
  },
  plain(qatGap, 'what 4-bit training costs by size, tokens and group', { ...qatPublished }, true),
  plain(
    floatingPoint,
    'exponent bits, mantissa bits and block size of floating-point training',
    { published: floatingPointPublished },
    true,
  ),
  plain(precisionLaw, 'bits of weights, activations and KV cache in training (fit it: no published base)', {}),
];

/** @throws SubbyteError `unknown-law` with the laws that there are */
export function findLaw(id: string): LawEntry {
  const found = laws.find((law) => law.id === id);
  if (found) return found;
  throw userError({
    code: 'unknown-law',
    op: 'laws',
    problem: 'there is no such law',
    got: JSON.stringify(id.slice(0, 64)),
    expected: laws.map((law) => law.id).join(', '),
  });
}

/** Schemes named in parameters such as `effN(QuEST)`. */
export function schemesOf(values: Readonly<Record<string, number>>): Required<Schemes> {
  const named = (kind: 'effN' | 'effD') =>
    Object.keys(values).flatMap((name) => (name.startsWith(`${kind}(`) ? [name.slice(5, -1)] : []));
  return { forward: named('effN'), backward: named('effD') };
}

/** @throws SubbyteError `unknown-coefficients` with the sets that there are */
export function publishedSet(entry: LawEntry, name: string | undefined): { name: string; coefficients: Coefficients } {
  const names = Object.keys(entry.published);
  const chosen = name ?? names[0];
  const coefficients = chosen === undefined ? undefined : entry.published[chosen];
  if (chosen !== undefined && coefficients) return { name: chosen, coefficients };
  throw userError({
    code: 'unknown-coefficients',
    op: `laws ${entry.id}`,
    problem:
      name === undefined ? 'there are no published coefficients of this law' : 'there is no such set of coefficients',
    ...(name !== undefined && { got: JSON.stringify(name.slice(0, 64)) }),
    ...(names.length > 0 && { expected: names.join(', ') }),
    fix: 'or fit it to runs with `subbyte laws fit --out fit.json` and give --fit fit.json',
  });
}
