// The recorded runs that reproductions read, from a checkout or from the published package.

import { readFileSync } from 'node:fs';
import { flagDiverged } from '../src/laws/divergence.ts';
import { parseRuns, type Run } from '../src/laws/runs.ts';
import { packageFile } from '../src/package-files.ts';

/** All recorded runs of Quartet, QuEST and Chinchilla (566), those that diverged marked. */
export function recordedRuns(): Run[] {
  const text = readFileSync(packageFile('reproduce/data/quartet-runs.csv'), 'utf8');
  return flagDiverged(parseRuns(text, 'quartet-runs.csv'), { same: ['source', 'note'] });
}
