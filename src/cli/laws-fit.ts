// subbyte laws fit: coefficients of a law from run logs, with intervals, what the runs do not say, and how well it
// extrapolates.

import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { Option } from 'commander';
import { userError } from '../errors.ts';
import { fileError } from '../io/file-errors.ts';
import { makeFolder } from '../io/make-folder.ts';
import { type Bootstrap, bootstrap } from '../laws/bootstrap.ts';
import { type Fit, type FitOptions, fitLaw } from '../laws/fit.ts';
import { fitFileText } from '../laws/fit-file.ts';
import { extrapolate, type HoldOut } from '../laws/holdout.ts';
import { findLaw, type LawEntry, publishedSet, type Schemes } from '../laws/registry.ts';
import type { Run } from '../laws/runs.ts';
import { checkPlotFile, writePlot } from '../plot/render.ts';
import { type CommandDefinition, parseCount, parseNumber, parseRepeated } from './command.ts';
import {
  mixtures,
  observations,
  parseCondition,
  type RunOptions,
  type RunTable,
  readRuns,
  runOptions,
} from './laws-input.ts';
import { fitPlot } from './laws-plots.ts';
import type { Session } from './session.ts';
import { renderTable } from './table.ts';

export interface FitCommandOptions extends RunOptions {
  freeze?: string[];
  tie?: string[];
  base?: string;
  huber?: number;
  residual?: 'log' | 'nats';
  holdOut?: string;
}

interface Options extends FitCommandOptions {
  bootstrap: number;
  out?: string;
  plot?: string;
}

/** Options that `fit` and `compare` share. */
export const fitOptions = (): Option[] => [
  ...runOptions(),
  new Option('--huber <threshold>', "Huber's threshold on residuals (default: 1e-3)").argParser(parseNumber),
  new Option('--residual <kind>', 'log losses, or nats (for gaps that noise can make negative)').choices([
    'log',
    'nats',
  ]),
  new Option('--hold-out <condition>', "predict these runs from the others: 'n>3e8'"),
];

const definition: CommandDefinition = {
  name: 'fit',
  summary: 'fit a law to run logs',
  arguments: [
    ['<law>', 'a law of `subbyte laws`'],
    ['<runs...>', '.csv, .json or .jsonl with n_params, d_tokens, loss; a training log counts as one run'],
  ],
  options: [
    ...fitOptions(),
    new Option('--freeze <name=value>', 'hold a parameter at a value; repeatable').argParser(parseRepeated),
    new Option('--tie <name=other>', 'two parameters are equal: beta=alpha; repeatable').argParser(parseRepeated),
    new Option('--base <set>', 'hold all parameters of a published set of the law outer-exponent or chinchilla'),
    new Option('--bootstrap <n>', 'refits for intervals; 0: none').default(200).argParser(parseCount),
    new Option('--out <file>', 'write the fit as JSON, for `laws predict --fit` and `laws plan --fit`'),
    new Option('--plot <file>', 'draw runs and fit: .svg, .png, or the specification as .json'),
  ],
  examples: [
    'subbyte laws fit chinchilla runs.csv --tie beta=alpha --out fit.json --plot fit.svg',
    "subbyte laws fit quartet runs.csv --base quartet --where 'bwd=BF16'",
    'subbyte laws fit qat w4a4.csv --twins BF16 --residual nats',
    "subbyte laws fit outer-exponent logs/*.jsonl --hold-out 'n>3e8' --json",
  ],
  async run(session, [id, ...files], raw) {
    const options = raw as unknown as Options;
    const entry = findLaw(id);
    if (options.plot) checkPlotFile('laws fit', options.plot);
    const runs = await readRuns(session, files, options);
    const { law, schemes, data, settings, notes } = prepare(entry, runs, options);
    for (const note of notes) session.warn(`  note         ${note}`);
    const fitted = fitLaw(law, data, settings);
    const resampled =
      options.bootstrap > 0 && fitted.free.length > 0
        ? bootstrap(fitted, { samples: options.bootstrap, seed: session.options.seed + 1 })
        : undefined;
    const held = options.holdOut ? holdOut(law, data, settings, options.holdOut) : undefined;
    report(session, fitted, resampled, held);
    const source = files.map((f) => path.basename(f)).join(', ');
    if (options.out) await save(options.out, fitFileText(fitted, schemes, resampled, source));
    if (options.plot) await writePlot('laws fit', fitPlot(fitted, resampled), options.plot);
    session.result({
      law: law.id,
      schemes,
      runs: fitted.runs.length,
      source,
      values: fitted.values,
      free: fitted.free,
      errors: resampled?.errors,
      intervals: resampled?.intervals,
      cost: fitted.cost,
      starts: fitted.starts,
      agreeing: fitted.agreeing,
      excluded: fitted.excluded,
      unidentified: fitted.identifiability.unidentified,
      warnings: [...notes, ...fitted.warnings],
      holdOut: held && { meanError: held.meanError, bias: held.bias, reach: held.reach, predictions: held.predictions },
      files: [options.out, options.plot].filter(Boolean),
    });
  },
};

/** The law with the schemes that the runs have, the observations, and the options of the fit. */
export function prepare(entry: LawEntry, runs: RunTable, options: FitCommandOptions) {
  const used = (kind: 'forward' | 'backward') => [
    ...new Set(
      runs.flagged.filter((r) => !r.diverged).flatMap((r) => (r[kind] && !/^bf16$/i.test(r[kind]) ? [r[kind]] : [])),
    ),
  ];
  const schemes: Schemes = Object.fromEntries(entry.schemes.map((kind) => [kind, used(kind)]));
  const law = entry.build(schemes);
  const data = observations(entry, law, runs, options);
  const frozen = { ...baseOf(options.base), ...assignments('--freeze', options.freeze, parseNumber) };
  const tied = assignments('--tie', options.tie, (name) => name);
  const settings: FitOptions = {
    frozen,
    tied,
    ...(options.huber !== undefined && { huber: options.huber }),
    ...(options.residual && { residual: options.residual }),
  };
  return { law, schemes, data, settings, notes: mixtures(entry, law, data) };
}

function baseOf(name: string | undefined): Readonly<Record<string, number>> {
  if (name === undefined) return {};
  const all = [findLaw('outer-exponent'), findLaw('chinchilla')];
  const found = all.find((entry) => name in entry.published);
  if (found) return publishedSet(found, name).coefficients.values;
  throw userError({
    code: 'unknown-coefficients',
    op: 'laws fit',
    problem: 'there is no such base',
    got: JSON.stringify(name),
    expected: all.flatMap((entry) => Object.keys(entry.published)).join(', '),
  });
}

function assignments<T>(
  option: string,
  list: readonly string[] | undefined,
  read: (text: string) => T,
): Record<string, T> {
  return Object.fromEntries(
    (list ?? []).map((text) => {
      const at = text.indexOf('=');
      if (at > 0) return [text.slice(0, at).trim(), read(text.slice(at + 1).trim())];
      throw userError({
        code: 'assignment',
        op: 'laws fit',
        problem: `${option} has no name and value`,
        got: JSON.stringify(text),
        expected: option === '--tie' ? 'beta=alpha' : 'E=1.8',
      });
    }),
  );
}

export const holdOut = (law: Fit['law'], data: readonly Run[], settings: FitOptions, condition: string): HoldOut =>
  extrapolate(law, data, (run) => parseCondition(condition, data)(run as Run), settings);

async function save(file: string, text: string): Promise<void> {
  try {
    await makeFolder(path.dirname(path.resolve(file)));
    await writeFile(file, text);
  } catch (cause) {
    throw fileError('laws fit', file, cause);
  }
}

function report(session: Session, fitted: Fit, resampled: Bootstrap | undefined, held: HoldOut | undefined): void {
  const { law, free, values } = fitted;
  session.print(
    renderTable(
      [
        { title: 'parameter' },
        { title: 'value', align: 'right' },
        { title: resampled ? `${100 * resampled.level} % interval` : '' },
        { title: 'meaning' },
      ],
      law.parameters.map(({ name, meaning }) => [
        name,
        values[name].toPrecision(6),
        resampled?.intervals[name]?.map((v) => v.toPrecision(4)).join(' to ') ?? (free.includes(name) ? '' : 'held'),
        meaning,
      ]),
    ),
  );
  const spread = Math.sqrt(fitted.residuals.reduce((s, r) => s + r * r, 0) / fitted.residuals.length);
  const unit = fitted.options.residual === 'nats' ? 'nats' : 'in ln';
  session.print(
    `${law.formula}: ${fitted.runs.length} runs, Huber cost ${fitted.cost.toPrecision(5)}, RMS residual ${spread.toExponential(2)} ${unit}, ${fitted.agreeing} of ${fitted.starts} starts agree`,
  );
  if (held)
    session.print(
      `held out: ${held.predictions.length} runs, mean error ${(100 * held.meanError).toFixed(2)} %, bias ${(100 * held.bias).toFixed(2)} %, up to ${held.reach.n.toFixed(1)} times the size and ${held.reach.d.toFixed(1)} times the tokens of the fit`,
    );
  for (const warning of fitted.warnings) session.warn(`  note         ${warning}`);
}

export default definition;
