// What the laws commands read: run logs with conditions on their columns, amounts, fitted laws.

import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { Option } from 'commander';
import { userError } from '../errors.ts';
import { fileError } from '../io/file-errors.ts';
import { flagDiverged, gapsToTwins } from '../laws/divergence.ts';
import { type FitFile, parseFitFile } from '../laws/fit-file.ts';
import type { Law } from '../laws/law.ts';
import type { LawEntry } from '../laws/registry.ts';
import { parseRuns, type Run } from '../laws/runs.ts';
import { parseRepeated } from './command.ts';
import type { Session } from './session.ts';

const units: Readonly<Record<string, number>> = { '': 1, k: 1e3, M: 1e6, B: 1e9, T: 1e12 };

/** `7e9`, `7B`, `1.5T`: a count with a unit that cannot be mistaken. */
export function parseAmount(text: string): number {
  const [, number = '', unit = ''] = /^([\d._]+(?:e\+?\d+)?)\s*([kMBT]?)$/.exec(text.trim()) ?? [];
  const value = Number(number.replaceAll('_', '')) * units[unit];
  if (number !== '' && Number.isFinite(value) && value > 0) return value;
  throw userError({
    code: 'not-an-amount',
    op: 'options',
    problem: 'not a count',
    got: JSON.stringify(text),
    fix: 'give a number such as 7e9, 7B or 1.5T',
  });
}

type Comparison = (a: number | string, b: number | string) => boolean;
const comparisons: Readonly<Record<string, Comparison>> = {
  '=': (a, b) => a === b,
  '!=': (a, b) => a !== b,
  '>': (a, b) => a > b,
  '>=': (a, b) => a >= b,
  '<': (a, b) => a < b,
  '<=': (a, b) => a <= b,
};

const fieldNames: Readonly<Record<string, keyof Run>> = {
  n: 'n',
  d: 'd',
  loss: 'observed',
  fwd: 'forward',
  forward: 'forward',
  bwd: 'backward',
  backward: 'backward',
  group: 'group',
  block: 'block',
  w_bits: 'weightBits',
  a_bits: 'activationBits',
  kv_bits: 'cacheBits',
  e_bits: 'exponentBits',
  m_bits: 'mantissaBits',
};

/** `n>3e8`, `source=quartet`, `fwd!=BF16`: a condition on a column of the runs. */
export function parseCondition(text: string, runs: readonly Run[]): (run: Run) => boolean {
  const [, name = '', comparison = '', value = ''] = /^\s*([\w.-]+)\s*(!=|>=|<=|=|>|<)\s*(.*?)\s*$/.exec(text) ?? [];
  const wrong = (problem: string, expected?: string) =>
    userError({
      code: 'condition',
      op: 'laws',
      problem,
      got: JSON.stringify(text),
      ...(expected !== undefined && { expected }),
      fix: "write a column, a comparison and a value: 'n>3e8', 'source=quartet'",
    });
  if (name === '') throw wrong('not a condition');
  const field = fieldNames[name];
  const cell = (run: Run) => (field ? run[field] : run.extra[name]) as string | number | undefined;
  if (!runs.some((run) => cell(run) !== undefined))
    throw wrong(
      `no run has the column ${name}`,
      [...new Set([...Object.keys(fieldNames), ...runs.flatMap((run) => Object.keys(run.extra))])].join(', '),
    );
  const number = Number(value);
  const numeric = value !== '' && Number.isFinite(number);
  return (run) => {
    const found = cell(run) ?? '';
    if (numeric && found !== '' && Number.isFinite(Number(found)))
      return comparisons[comparison](Number(found), number);
    return comparisons[comparison](String(found), value);
  };
}

export interface RunOptions {
  where?: string[];
  series: string;
  twins?: string;
}

export const runOptions = (): Option[] => [
  new Option('--where <condition>', "only runs for which it holds: 'source=quartet', 'n<1e9'; repeatable").argParser(
    parseRepeated,
  ),
  new Option('--series <columns>', 'columns that tell series of runs apart, for finding runs that diverged').default(
    'source,corpus,series,note',
  ),
  new Option('--twins <scheme>', 'for gaps: subtract the loss of the run with this forward scheme, same n and d'),
];

async function read(file: string): Promise<string> {
  return readFile(file, 'utf8').catch((cause) => {
    throw fileError('laws', file, cause);
  });
}

export interface RunTable {
  /** Runs whose loss rose with more tokens are marked as diverged. */
  flagged: Run[];
  /** The same runs with the marks of their files alone. */
  plain: Run[];
}

/** The runs of all files for which the conditions hold. Divergence is judged before, when all runs are there. */
export async function readRuns(session: Session, files: readonly string[], options: RunOptions): Promise<RunTable> {
  const all: Run[] = [];
  for (const file of files) all.push(...parseRuns(await read(file), path.basename(file)));
  const flagged = flagDiverged(all, { same: options.series.split(',').map((s) => s.trim()) });
  const conditions = (options.where ?? []).map((text) => parseCondition(text, all));
  const isKept = all.map((run) => conditions.every((holds) => holds(run)));
  if (!isKept.includes(true))
    throw userError({
      code: 'no-runs',
      op: session.command,
      problem: 'no run is left',
      got: `${all.length} runs before --where`,
      fix: 'loosen the conditions',
    });
  return { flagged: flagged.filter((_, i) => isKept[i]), plain: all.filter((_, i) => isKept[i]) };
}

/**
 * What a law is fitted to: losses as they are, or gaps to the unquantized twins. Where the law itself lets losses rise
 * with tokens, and where the file holds gaps, a rise is no divergence.
 *
 * @throws SubbyteError `law-data` for a gap law when no quantized run has a twin, or losses stand where gaps should
 */
export function observations({ rises }: LawEntry, law: Law, runs: RunTable, { twins = 'BF16' }: RunOptions): Run[] {
  if (law.predicts === 'loss') return rises ? runs.plain : runs.flagged;
  const isTwin = ({ forward, group }: Run) =>
    forward === undefined ? group === undefined : forward.toLowerCase() === twins.toLowerCase();
  const wrong = (problem: string) =>
    userError({
      code: 'law-data',
      op: `fit ${law.id}`,
      problem,
      fix: `add the ${twins} runs of equal n and d, or give a column gap`,
    });
  if (runs.plain.some(isTwin)) {
    const gaps = gapsToTwins(runs.flagged, isTwin);
    if (gaps.length === 0) throw wrong(`no quantized run has a ${twins} twin`);
    return gaps;
  }
  // no gap of a useful format comes near one nat
  if (runs.plain.every((run) => run.observed > 1)) throw wrong('these look like losses, not gaps to unquantized runs');
  return runs.plain;
}

/** Columns whose values must agree for losses to be compared. */
const comparable = ['corpus', 'tokenizer', 'metric', 'loss_kind', 'n_def'];

/** What a fit of these runs mixes up: formats that the law does not tell apart, losses of different kinds. */
export function mixtures(entry: LawEntry, law: Law, runs: readonly Run[]): string[] {
  const distinct = (of: (run: Run) => string | undefined) => [...new Set(runs.map((run) => of(run) ?? ''))];
  const formats = distinct((r) => `${r.forward ?? 'BF16'}:${r.backward ?? 'BF16'}`);
  const knowsFormats = entry.schemes.length > 0 || law.needs.length > 0;
  const notes = comparable.flatMap((column) => {
    const values = distinct((run) => run.extra[column]);
    return values.length > 1 ? [`the runs have ${values.length} values of ${column}: ${list(values)}`] : [];
  });
  if (!knowsFormats && formats.length > 1)
    notes.unshift(`the law ${law.id} does not tell the runs' ${formats.length} formats apart: ${list(formats)}`);
  return notes.map((note) => `${note}; choose with --where`);
}

const list = (values: readonly string[]) =>
  `${values
    .slice(0, 4)
    .map((v) => v || 'none')
    .join(', ')}${values.length > 4 ? ', …' : ''}`;

/** A file that `laws fit --out` wrote. */
export async function readFit(file: string): Promise<FitFile & { form: Law }> {
  return parseFitFile(await read(file), file);
}
