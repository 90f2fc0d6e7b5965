// The recorded runs that reproductions read, from a checkout or from the published package.

import { existsSync, readFileSync } from 'node:fs';
import { flagDiverged } from '../src/laws/divergence.ts';
import { parseRuns, type Run } from '../src/laws/runs.ts';

const places = ['./data/', '../../reproduce/data/'].map((place) => new URL(place, import.meta.url));
const folder = places.find((place) => existsSync(place)) ?? places[0];

/** All recorded runs of Quartet, QuEST and Chinchilla (566), those that diverged marked. */
export function recordedRuns(): Run[] {
  const text = readFileSync(new URL('quartet-runs.csv', folder), 'utf8');
  return flagDiverged(parseRuns(text, 'quartet-runs.csv'), { same: ['source', 'note'] });
}
