// Refits Quartet's scaling law (arXiv 2505.14669) and the Chinchilla refit (arXiv 2404.10102) from the recorded runs
// and prints published values beside ours. Run it with Node 24: node reproduce/quartet-law.ts

import { readFileSync } from 'node:fs';
import { bootstrap } from '../src/laws/bootstrap.ts';
import { chinchilla, chinchillaRefit } from '../src/laws/chinchilla.ts';
import { flagDiverged } from '../src/laws/divergence.ts';
import { type Fit, fitLaw } from '../src/laws/fit.ts';
import { outerExponent, quartetBase } from '../src/laws/outer-exponent.ts';
import { quartetEfficiencies, quartetLaw } from '../src/laws/quartet.ts';
import { parseRuns, type Run } from '../src/laws/runs.ts';
import { fullFp4Crossover } from '../src/laws/speed-up.ts';

const file = new URL('../test/fixtures/laws/quartet-runs.csv', import.meta.url);
const runs = flagDiverged(parseRuns(readFileSync(file, 'utf8'), 'quartet-runs.csv'), { same: ['source', 'note'] });
const first = runs.filter((r) => r.extra.source === 'quartet' && r.extra.note === 'fit_v1');
const huber = 1e-4;
const short = (r: Run) => {
  const steps = Number(r.extra.steps);
  return (r.extra.size_label === '30M' && steps < 9e4) || (r.extra.size_label === '50M' && steps < 3e4);
};

function print(title: string, header: string[], rows: (string | number)[][]): void {
  const line = (cells: (string | number)[]) => `| ${cells.join(' | ')} |`;
  console.log([`\n## ${title}\n`, line(header), line(header.map(() => '---')), ...rows.map(line)].join('\n'));
}

function parameterRows(fitted: Fit, published: Readonly<Record<string, number>>): (string | number)[][] {
  const { errors, intervals } = bootstrap(fitted, { samples: 400 });
  return fitted.free.map((name) => {
    const interval = intervals[name]!.map((v) => v.toPrecision(4)).join(' to ');
    return [
      name,
      published[name]!.toPrecision(6),
      fitted.values[name]!.toPrecision(6),
      errors[name]!.toPrecision(2),
      interval,
    ];
  });
}

const columns = ['parameter', 'published', 'refitted', 'bootstrap error', '90 % interval'];
const base = fitLaw(
  outerExponent,
  first.filter((r) => r.forward === 'BF16' && r.backward === 'BF16'),
  { huber },
);
print(
  `Base on ${base.runs.length} BF16 runs, Huber cost ${base.cost.toPrecision(5)}`,
  columns,
  parameterRows(base, quartetBase.values),
);

print(
  'Efficiencies over the published base',
  ['forward', 'backward', 'runs', 'published effN, effD', 'refitted, all runs', 'without diverged runs'],
  quartetEfficiencies.map((published) => {
    const { forward, backward, effN, effD } = published;
    const chosen = first.filter(
      (r) => r.forward === forward && r.backward === backward && (published.runs !== 8 || short(r)),
    );
    const law = quartetLaw(effN === 1 ? [] : [forward], effD === 1 ? [] : [backward]);
    const refit = (kept: Run[]) => {
      const { values } = fitLaw(
        law,
        kept.map((r) => ({ ...r, diverged: false })),
        { huber, frozen: quartetBase.values },
      );
      return [`effN(${forward})`, `effD(${backward})`].map((name) => (values[name] ?? 1).toFixed(4)).join(', ');
    };
    return [
      forward,
      backward,
      chosen.length,
      `${effN}, ${effD}`,
      refit(chosen),
      refit(chosen.filter((r) => !r.diverged)),
    ];
  }),
);

print(
  'Tokens per parameter above which FP4 in both passes wins (ideal speed-ups)',
  ['N', 'from the published values'],
  [1e8, 1e9, 1e10, 1e11].map((n) => [
    n.toExponential(0),
    fullFp4Crossover(outerExponent, quartetBase.values, { effN: 0.6478, effD: 0.8918 }, n)?.toFixed(1) ?? 'none',
  ]),
);

const digitised = runs.filter((r) => r.extra.source === 'chinchilla-epoch' && r.extra.note !== 'excluded_outlier');
const refitted = fitLaw(chinchilla, digitised);
print(
  `Chinchilla on ${digitised.length} digitised runs, Huber cost ${refitted.cost.toPrecision(7)}`,
  columns,
  parameterRows(refitted, chinchillaRefit.values),
);

print(
  'Runs flagged as diverged',
  ['run', 'forward', 'backward', 'why'],
  runs.filter((r) => r.diverged).map((r) => [r.label, r.forward ?? '', r.backward ?? '', r.reason ?? '']),
);
