// subbyte laws compare: several laws on the same runs, by fit, by information criterion, and on held-out runs.

import { Option } from 'commander';
import { SubbyteError, userError } from '../errors.ts';
import { fitLaw } from '../laws/fit.ts';
import type { HoldOut } from '../laws/holdout.ts';
import { findLaw } from '../laws/registry.ts';
import { type CommandDefinition, parseList } from './command.ts';
import { type FitCommandOptions, fitOptions, holdOut, prepare } from './laws-fit.ts';
import { type RunTable, readRuns } from './laws-input.ts';
import { renderTable } from './table.ts';

interface Row {
  law: string;
  /** `rms` is of residuals in ln, or nats. */
  fit?: { parameters: number; runs: number; cost: number; rms: number; bic: number };
  heldOut?: Pick<HoldOut, 'meanError' | 'bias'>;
  warnings: readonly string[];
  /** Why the law could not be fitted. */
  problem?: string;
}

const standard = ['chinchilla', 'outer-exponent'];

const definition: CommandDefinition = {
  name: 'compare',
  summary: 'fit several laws to the same runs and say which describes them best',
  arguments: [['<runs...>', '.csv, .json or .jsonl with n_params, d_tokens, loss']],
  options: [
    new Option('--laws <names>', `laws to compare (default: ${standard.join(',')})`).argParser(parseList),
    ...fitOptions(),
  ],
  examples: [
    "subbyte laws compare runs.csv --where 'fwd=BF16' --hold-out 'n>3e8'",
    'subbyte laws compare runs.csv --laws chinchilla,outer-exponent,quartet',
  ],
  async run(session, files, raw) {
    const options = raw as unknown as FitCommandOptions & { laws?: string[] };
    const entries = (options.laws ?? standard).map(findLaw);
    const runs = await readRuns(session, files, options);
    const rows = entries.map((entry) => compareOne(entry.id, runs, options));
    if (rows.every((row) => row.problem !== undefined))
      throw userError({
        code: 'law-data',
        op: 'laws compare',
        problem: `no law could be fitted; the first: ${rows[0].problem}`,
        fix: 'add runs or loosen --where',
      });
    // laws that were fitted to the same number of runs can be ranked
    const rank = ({ fit }: Row) => fit?.bic ?? Number.POSITIVE_INFINITY;
    rows.sort((a, b) => rank(a) - rank(b));
    const right = { align: 'right' as const };
    const percent = (v: number | undefined) => (v === undefined ? '' : `${(100 * v).toFixed(2)} %`);
    session.print(
      renderTable(
        [
          { title: 'law' },
          { title: 'free', ...right },
          { title: 'runs', ...right },
          { title: 'Huber cost', ...right },
          { title: 'RMS residual', ...right },
          { title: 'BIC', ...right },
          ...(options.holdOut
            ? [
                { title: 'held out', ...right },
                { title: 'bias', ...right },
              ]
            : []),
        ],
        rows.flatMap((r) => {
          if (r.fit === undefined) return [];
          const { parameters, runs: count, cost, rms, bic } = r.fit;
          return [
            [
              r.law,
              String(parameters),
              String(count),
              cost.toPrecision(4),
              rms.toExponential(2),
              bic.toFixed(1),
              ...(options.holdOut ? [percent(r.heldOut?.meanError), percent(r.heldOut?.bias)] : []),
            ],
          ];
        }),
      ),
    );
    session.print(
      'BIC: k·ln(runs) + runs·ln(mean square residual); a difference above 10 is decisive. The best is first.',
    );
    for (const { law, warnings, problem } of rows) {
      if (problem !== undefined) session.warn(`  note         ${law} was not fitted: ${problem}`);
      for (const warning of warnings) session.warn(`  note         ${law}: ${warning}`);
    }
    session.result({ laws: rows });
  },
};

function compareOne(id: string, all: RunTable, options: FitCommandOptions): Row {
  try {
    const { law, data, settings, notes } = prepare(findLaw(id), all, options);
    const { free, runs, cost, residuals, warnings } = fitLaw(law, data, settings);
    const meanSquare = residuals.reduce((sum, r) => sum + r * r, 0) / runs.length;
    const held = options.holdOut ? holdOut(law, data, settings, options.holdOut) : undefined;
    return {
      law: id,
      fit: {
        parameters: free.length,
        runs: runs.length,
        cost,
        rms: Math.sqrt(meanSquare),
        bic: free.length * Math.log(runs.length) + runs.length * Math.log(meanSquare),
      },
      ...(held && { heldOut: { meanError: held.meanError, bias: held.bias } }),
      warnings: [...notes, ...warnings],
    };
  } catch (error) {
    // a law that these runs cannot determine is a row of the comparison, not its end
    if (error instanceof SubbyteError && error.details.code.startsWith('law-'))
      return { law: id, warnings: [], problem: error.message };
    throw error;
  }
}

export default definition;
