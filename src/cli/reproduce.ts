// subbyte reproduce: checks the claims of a published system and writes a report. The experiments are the files of
// reproduce/, one a system. Those that train go on where they were stopped.

import { availableParallelism } from 'node:os';
import path from 'node:path';
import { Option } from 'commander';
import { SubbyteError, userError } from '../errors.ts';
import type { Report, Reproduction, ReproductionContext, StudyOptions, Verdict } from '../report/reproduction.ts';
import { writeReport } from '../report/write.ts';
import { type CommandDefinition, parseCount, parseList, parseNumber, parseRepeated } from './command.ts';
import { checkDevice, type GpuChoices, openBackend } from './device.ts';
import type { Progress } from './progress.ts';
import type { Session } from './session.ts';
import { readEntries } from './set-option.ts';
import { renderTable } from './table.ts';

const known = {
  'quartet-law': "Quartet's scaling law from its recorded runs, and the Chinchilla refit",
  'qat-law': 'the law of quantization-aware training: published numbers, recovery from noisy runs',
  'fp-law': 'the law of floating-point training: critical data, layouts, cost-optimal bits, recovery',
  'int-vs-fp': 'integer against float formats: crossovers, Monte Carlo QSNR, a real model, symmetric clipping',
  quartet: 'Quartet and its parts: trainings of every scheme, errors and biases of rounding, gradients by depth',
};

/** Those that train models and take the options of a study. */
const studies: readonly string[] = ['quartet'];

const definition: CommandDefinition = {
  name: 'reproduce',
  summary: 'check what a paper claims, and write a report with plots',
  arguments: [['[names...]', `what to reproduce: ${Object.keys(known).join(', ')} (default: list them)`]],
  options: [
    new Option('--out <folder>', 'where reports go, a folder each').default('out/reproduce'),
    new Option('--strict', 'exit code 4 when a claim does not hold (a report is a result: otherwise 0)'),
    new Option('--scale <name>', 'quartet: tiny (minutes on a CPU) or h100 (a GPU; resumes over several calls)'),
    new Option('--device <name>', 'quartet: wasm (the default), webgpu, webgpu:N or reference').argParser(checkDevice),
    new Option(
      '--data <texts>',
      'quartet: training texts, or one .tokens file (default: the sample that ships)',
    ).argParser(parseList),
    new Option('--validation <texts>', 'quartet: held-out texts (default: the end of --data)').argParser(parseList),
    new Option('--tokenizer <model>', 'quartet: bytes, or a model folder or hub id'),
    new Option('--seeds <n>', 'quartet: trainings of each scheme').argParser(parseCount),
    new Option('--schemes <names>', 'quartet: recipes to train, besides bf16').argParser(parseList),
    new Option('--set <entry=value>', "quartet: another value in the training config: 'steps=400'").argParser(
      parseRepeated,
    ),
    new Option('--time-limit <minutes>', 'quartet: stop training after this time, keep what is done').argParser(
      parseNumber,
    ),
  ],
  examples: [
    'subbyte reproduce',
    'subbyte reproduce quartet-law',
    'subbyte reproduce qat-law fp-law --out reports',
    'subbyte reproduce quartet --scale tiny --strict',
    'subbyte reproduce quartet --scale h100 --device webgpu --data train.txt.xz --time-limit 9',
  ],
  async run(session, names, raw) {
    const { out, strict, device, set, ...options } = raw as unknown as CommandOptions;
    if (names.length === 0) {
      session.print(renderTable([{ title: 'name' }, { title: 'what is checked' }], Object.entries(known)));
      session.result({ reproductions: Object.entries(known).map(([name, summary]) => ({ name, summary })) });
      return;
    }
    for (const name of names) checkName(name);
    checkStudy(names, { device, set, ...options });
    const study = { ...options, ...(set && { changes: readEntries(set) }) };
    const open = (choices?: GpuChoices) => openBackend(session, device ?? 'wasm', choices);
    const results = [];
    for (const name of names) {
      const result = await reproduce(session, name, path.join(out, name), study, open);
      results.push(result);
      if (names.length > 1) session.print(`${name}: ${countLine(result)}\n`);
    }
    const all = total(results);
    session.result({ reports: results, ...all });
    session.print(countLine(all));
    if (strict && all.doesNotHold > 0) throw claimsFail(results);
  },
};

interface CommandOptions extends Omit<StudyOptions, 'changes'> {
  readonly out: string;
  readonly strict?: boolean;
  readonly device?: string;
  readonly set?: readonly string[];
}

const studyKeys = [
  'scale',
  'device',
  'data',
  'validation',
  'tokenizer',
  'seeds',
  'schemes',
  'set',
  'timeLimit',
] as const;

/** Options of a study are for names that are one. */
function checkStudy(names: readonly string[], options: Omit<CommandOptions, 'out' | 'strict'>): void {
  const other = names.find((name) => !studies.includes(name));
  const given = studyKeys.find((key) => options[key] !== undefined);
  if (other === undefined || given === undefined) return;
  throw userError({
    code: 'not-a-study',
    op: 'reproduce',
    problem: `--${given.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)} is for reproductions that train`,
    got: JSON.stringify(other),
    expected: studies.join(', '),
    fix: `run ${other} by itself`,
  });
}

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
  const kind = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
  const file = new URL(`../../reproduce/${name}.${kind}`, import.meta.url);
  return ((await import(file.href)) as { default: Reproduction }).default;
}

async function reproduce(
  session: Session,
  name: string,
  folder: string,
  options: StudyOptions,
  openDevice: ReproductionContext['openBackend'],
) {
  const reproduction = await load(name);
  const began = performance.now();
  const shown: { progress?: Progress; percent: number } = { percent: 0 };
  const report = await reproduction.run({
    seed: session.options.seed,
    signal: session.signal,
    onProgress: (fraction, what) => {
      // what earlier calls have done says nothing about the rate of this one
      if (!shown.progress) shown.percent = 100 * fraction;
      shown.progress ??= session.progress(name, 100 * (1 - fraction), '%');
      shown.progress.advance(100 * fraction - shown.percent, what);
      shown.percent = 100 * fraction;
    },
    folder,
    options,
    threads: session.options.threads ?? availableParallelism(),
    openBackend: openDevice,
    note: session.note,
  });
  shown.progress?.done();
  const seconds = (performance.now() - began) / 1000;
  const { files, warning } = await writeReport('reproduce', report, folder);
  print(session, report, files);
  if (warning !== undefined) session.warn(`  note         ${warning}`);
  return { name, seconds, ...counts(report), ...report, sections: undefined, files };
}

interface Counts {
  readonly holds: number;
  readonly withinNoise: number;
  readonly doesNotHold: number;
}

function counts({ claims }: Report): Counts {
  const of = (verdict: Verdict) => claims.filter((c) => c.verdict === verdict).length;
  return { holds: of('holds'), withinNoise: of('within noise'), doesNotHold: of('does not hold') };
}

function total(results: readonly Counts[]): Counts {
  const sum = (key: keyof Counts) => results.reduce((n, result) => n + result[key], 0);
  return { holds: sum('holds'), withinNoise: sum('withinNoise'), doesNotHold: sum('doesNotHold') };
}

const countLine = ({ holds, withinNoise, doesNotHold }: Counts) =>
  `${holds + withinNoise + doesNotHold} claims: ${holds} hold, ${withinNoise} within noise, ${doesNotHold} do not hold`;

function claimsFail(results: readonly (Counts & Pick<Report, 'claims'>)[]): SubbyteError {
  const failed = results.flatMap(({ claims }) => claims.filter((c) => c.verdict === 'does not hold'));
  return new SubbyteError('gate', {
    code: 'claims-fail',
    op: 'reproduce',
    problem: `${failed.length} of ${results.reduce((n, { claims }) => n + claims.length, 0)} claims ${failed.length === 1 ? 'does' : 'do'} not hold, the first: ${failed[0].claim}`,
    got: failed[0].found,
    expected: failed[0].expected,
  });
}

function print(session: Session, report: Report, files: readonly string[]): void {
  session.print(session.color.bold(report.title));
  session.print(
    renderTable(
      [{ title: 'claim' }, { title: 'expected' }, { title: 'found' }, { title: 'verdict' }],
      report.claims.map((c) => [c.claim, c.expected, c.found, c.verdict]),
    ),
  );
  for (const { printed, instead } of report.corrections)
    session.print(`printed wrongly: ${printed}\n        instead: ${instead}`);
  if (report.unfinished) session.print(`not finished: ${report.unfinished}`);
  session.print(`report: ${files[0]} (${files.length - 1} plot files)`);
}

export default definition;
