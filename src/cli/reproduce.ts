// subbyte reproduce: checks the claims of a published system and writes a report. The experiments are the files of
// reproduce/, one a system.

import path from 'node:path';
import { Option } from 'commander';
import { userError } from '../errors.ts';
import type { Report, Reproduction, Verdict } from '../report/reproduction.ts';
import { writeReport } from '../report/write.ts';
import type { CommandDefinition } from './command.ts';
import type { Session } from './session.ts';
import { renderTable } from './table.ts';

const known = {
  'quartet-law': "Quartet's scaling law from its recorded runs, and the Chinchilla refit",
  'qat-law': 'the law of quantization-aware training: published numbers, recovery from noisy runs',
  'fp-law': 'the law of floating-point training: critical data, layouts, cost-optimal bits, recovery',
  'int-vs-fp': 'integer against float formats: crossovers, Monte Carlo QSNR, a real model, symmetric clipping',
};

const definition: CommandDefinition = {
  name: 'reproduce',
  summary: 'check what a paper claims, and write a report with plots',
  arguments: [['[names...]', `what to reproduce: ${Object.keys(known).join(', ')} (default: list them)`]],
  options: [new Option('--out <folder>', 'where reports go, a folder each').default('out/reproduce')],
  examples: ['subbyte reproduce', 'subbyte reproduce quartet-law', 'subbyte reproduce qat-law fp-law --out reports'],
  async run(session, names, raw) {
    const { out } = raw as { out: string };
    if (names.length === 0) {
      session.print(renderTable([{ title: 'name' }, { title: 'what is checked' }], Object.entries(known)));
      session.result({ reproductions: Object.entries(known).map(([name, summary]) => ({ name, summary })) });
      return;
    }
    for (const name of names) checkName(name);
    const results = [];
    for (const name of names) results.push(await reproduce(session, name, path.join(out, name)));
    session.result({ reports: results });
  },
};

function checkName(name: string): void {
  if (name in known) return;
  throw userError({
    code: 'unknown-reproduction',
    op: 'reproduce',
    problem: 'there is no such reproduction',
    got: JSON.stringify(name),
    expected: Object.keys(known).join(', '),
  });
}

/** The sources of a checkout, or the built files beside the built command. */
async function load(name: string): Promise<Reproduction> {
  const isSource = import.meta.url.endsWith('.ts');
  const file = new URL(isSource ? `../../reproduce/${name}.ts` : `../reproduce/${name}.mjs`, import.meta.url);
  return ((await import(file.href)) as { default: Reproduction }).default;
}

async function reproduce(session: Session, name: string, folder: string) {
  const reproduction = await load(name);
  const progress = session.progress(name, 100, '%');
  let done = 0;
  const report = await reproduction.run({
    seed: session.options.seed,
    signal: session.signal,
    onProgress: (fraction, what) => {
      progress.advance(100 * fraction - done, what);
      done = 100 * fraction;
    },
  });
  const seconds = progress.done();
  const files = await writeReport('reproduce', report, folder);
  print(session, report, files);
  return { name, seconds, ...counts(report), ...report, sections: undefined, files };
}

function counts({ claims }: Report) {
  const of = (verdict: Verdict) => claims.filter((c) => c.verdict === verdict).length;
  return { holds: of('holds'), withinNoise: of('within noise'), doesNotHold: of('does not hold') };
}

function print(session: Session, report: Report, files: readonly string[]): void {
  const { holds, withinNoise, doesNotHold } = counts(report);
  session.print(session.color.bold(report.title));
  session.print(
    renderTable(
      [{ title: 'claim' }, { title: 'expected' }, { title: 'found' }, { title: 'verdict' }],
      report.claims.map((c) => [c.claim, c.expected, c.found, c.verdict]),
    ),
  );
  session.print(
    `${report.claims.length} claims: ${holds} hold, ${withinNoise} within noise, ${doesNotHold} do not hold`,
  );
  for (const { printed, instead } of report.corrections)
    session.print(`printed wrongly: ${printed}\n        instead: ${instead}`);
  session.print(`report: ${files[0]} (${files.length - 1} plot files)\n`);
}

export default definition;
