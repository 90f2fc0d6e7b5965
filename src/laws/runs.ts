// Records of training runs from CSV, JSON and JSONL text, with units checked row by row.
//
// Sizes and tokens must be raw counts. Fields are found by their usual names (n_params, d_tokens, loss, fwd, bwd,
// group_size, …); other columns are kept in `extra`. A loss that is not a number is accepted only on a run that is
// marked as diverged; divergence.ts finds the runs that should have been marked. The log of one run, a record a step, is
// one run (step-log.ts).

import { modelError } from '../errors.ts';
import { parseCsv } from './csv.ts';
import { checkPoint, type Observation, type Point } from './law.ts';
import { isStepLog, lastOfSteps } from './step-log.ts';

export interface Run extends Observation {
  diverged?: boolean;
  /** Why `diverged` is set. */
  reason?: string;
  /** Columns that no law reads, as text. */
  extra: Readonly<Record<string, string>>;
}

const mostCharacters = 1 << 26;
const mostRuns = 1e6;
/** ln of any vocabulary in use is below 13: a larger "loss" is a perplexity or another unit. */
const largestLoss = 20;

type Field = Exclude<keyof Point, 'forward' | 'backward'> | 'observed';
const numberNames: Record<Field, readonly string[]> = {
  n: ['n', 'n_params', 'params', 'parameters', 'n_params_nonembedding'],
  d: ['d', 'd_tokens', 'tokens', 'training_tokens'],
  observed: ['loss', 'val_loss', 'final_loss', 'gap'],
  group: ['group', 'group_size'],
  exponentBits: ['e_bits', 'exponent_bits'],
  mantissaBits: ['m_bits', 'mantissa_bits'],
  block: ['block', 'block_size'],
  weightBits: ['w_bits', 'weight_bits'],
  activationBits: ['a_bits', 'activation_bits'],
  cacheBits: ['kv_bits', 'cache_bits'],
};
const textNames = {
  forward: ['forward', 'fwd'],
  backward: ['backward', 'bwd'],
  diverged: ['diverged'],
  label: ['label', 'name', 'id'],
};
const known = new Set([...Object.values(numberNames), ...Object.values(textNames)].flat());

/**
 * Reads runs; `file` names the text in messages and its extension (.csv, .json, .jsonl) says what it is.
 *
 * @throws SubbyteError `runs-format` for text that is not such a file, `runs-value` for a row whose numbers cannot be,
 * `law-units` for sizes in millions or tokens in billions.
 * @example parseRuns('n_params,d_tokens,loss\n30482560,749993984,3.4157\n', 'runs.csv')[0].n; // 30482560
 */
export function parseRuns(text: string, file: string): Run[] {
  if (text.length > mostCharacters)
    throw broken(
      file,
      'the file is too large for a table of runs',
      text.length,
      `at most ${mostCharacters} characters`,
    );
  const rows = /\.csv$/i.test(file) ? csvRows(text, file) : jsonRows(text, file);
  if (rows.length === 0) throw broken(file, 'the file holds no runs');
  if (rows.length > mostRuns) throw broken(file, 'the file holds too many runs', rows.length, `at most ${mostRuns}`);
  const records = rows.map(({ row }) => row);
  if (isStepLog(records)) return [toRun(lastOfSteps(records), 'the end', file)];
  return rows.map(({ row, at }) => toRun(row, at, file));
}

interface Row {
  row: Readonly<Record<string, unknown>>;
  /** Where it stands, for messages. */
  at: string;
}

function csvRows(text: string, file: string): Row[] {
  const [header, ...records] = parseCsv(text);
  if (!header) throw broken(file, 'the file is empty');
  return records.map(({ line, cells }) => {
    if (cells.length !== header.cells.length)
      throw broken(file, `line ${line} has another number of cells than the header`, cells.length, header.cells.length);
    return { row: Object.fromEntries(header.cells.map((name, i) => [name.trim(), cells[i]!])), at: `line ${line}` };
  });
}

function jsonRows(text: string, file: string): Row[] {
  if (/\.jsonl$/i.test(file))
    return text
      .split('\n')
      .flatMap((line, i) =>
        line.trim()
          ? [{ row: record(json(line, file, `line ${i + 1}`), file, `line ${i + 1}`), at: `line ${i + 1}` }]
          : [],
      );
  const value = json(text, file, 'the file');
  const list = Array.isArray(value) ? value : (value as { runs?: unknown } | null)?.runs;
  if (!Array.isArray(list))
    throw broken(file, 'the file is no list of runs', undefined, 'an array or { "runs": [...] }');
  return list.map((row, i) => ({ row: record(row, file, `run ${i + 1}`), at: `run ${i + 1}` }));
}

function json(text: string, file: string, at: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    // JSON has no NaN, yet run logs written from Python contain it.
    const quoted = text.replace(/(:\s*)(-?(?:NaN|Infinity))(?=\s*[,}\]])/g, '$1"$2"');
    if (quoted !== text) return json(quoted, file, at);
    throw modelError({ code: 'runs-format', op: 'runs', problem: `${at} is not JSON`, file }, { cause: error });
  }
}

function record(value: unknown, file: string, at: string): Record<string, unknown> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  throw broken(file, `${at} is no run record`, typeof value, 'an object');
}

function toRun(row: Row['row'], at: string, file: string): Run {
  const cell = (names: readonly string[]) => {
    for (const name of names)
      if (row[name] !== undefined && row[name] !== null && row[name] !== '') return String(row[name]);
    return undefined;
  };
  const label = cell(textNames.label) ?? `${at} of ${file}`;
  const diverged = /^(true|1|yes)$/i.test(cell(textNames.diverged) ?? '');
  const numbers: Partial<Record<Field, number>> = {};
  for (const [field, names] of Object.entries(numberNames) as [Field, readonly string[]][]) {
    const text = cell(names);
    if (text === undefined) continue;
    numbers[field] = Number(text);
    const isAllowedNaN = field === 'observed' && (diverged || /^[-+]?(nan|inf(inity)?)$/i.test(text));
    if (Number.isNaN(numbers[field]) && !isAllowedNaN)
      throw modelError({
        code: 'runs-value',
        op: 'runs',
        problem: `${field} at ${at} is not a plain number`,
        got: text.slice(0, 40),
        file,
        fix: 'write raw counts such as 2e10, without suffixes',
      });
  }
  const { n, d, observed } = numbers;
  if (n === undefined || d === undefined || observed === undefined)
    throw broken(
      file,
      `${at} lacks its size, tokens or loss`,
      Object.keys(row).slice(0, 12).join(', '),
      'columns such as n_params, d_tokens and loss',
    );
  checkPoint({ n, d }, [], 'runs', label);
  checkRatio(n, d, at, file);
  checkLoss(observed, diverged, at, file);
  const extra = Object.fromEntries(
    Object.entries(row)
      .filter(([k]) => !known.has(k))
      .map(([k, v]) => [k, String(v ?? '')]),
  );
  return {
    ...numbers,
    n,
    d,
    observed,
    label,
    extra,
    ...(cell(textNames.forward) !== undefined && { forward: cell(textNames.forward)! }),
    ...(cell(textNames.backward) !== undefined && { backward: cell(textNames.backward)! }),
    ...(diverged && { diverged, reason: 'marked as diverged' }),
  };
}

function checkRatio(n: number, d: number, at: string, file: string): void {
  if (d / n >= 1e-3 && d / n <= 1e8) return;
  throw modelError({
    code: 'law-units',
    op: 'runs',
    problem: `${at} has an impossible ratio of tokens to parameters, so their units differ`,
    got: (d / n).toPrecision(3),
    expected: 'both as raw counts',
    file,
  });
}

function checkLoss(loss: number, diverged: boolean, at: string, file: string): void {
  if (loss > 0 && loss <= largestLoss) return;
  const isPerplexity = Number.isFinite(loss) && loss > largestLoss;
  if (diverged && !isPerplexity) return;
  throw modelError({
    code: isPerplexity ? 'law-units' : 'runs-value',
    op: 'runs',
    problem: isPerplexity ? `the loss at ${at} looks like a perplexity` : `the loss at ${at} is no loss`,
    got: loss,
    expected: 'nats per token',
    file,
    fix: isPerplexity ? 'take its natural logarithm' : 'set diverged to true for this run or remove it',
  });
}

function broken(file: string, problem: string, got?: string | number, expected?: string | number) {
  return modelError({
    code: 'runs-format',
    op: 'runs',
    problem,
    file,
    ...(got !== undefined && { got }),
    ...(expected !== undefined && { expected }),
  });
}
