// The finished trainings of a study: a file of JSON lines, one appended when a training ends.
//
// A line counts for a study when its key is the same: the digest of what decides the weights and of all tokens. Lines of
// other settings stay in the file. A last line that a kill left half-written is skipped, and its training made again.

import { createHash } from 'node:crypto';
import { appendFile, readFile } from 'node:fs/promises';
import { fileError, systemCode } from '../../src/io/file-errors.ts';
import { configDigest } from '../../src/train/config/config.ts';
import type { RunName, Settings } from './settings.ts';

export interface FinishedRun extends RunName {
  readonly key: string;
  /** Validation loss in nats a token; null where training ended in values that are not finite. */
  readonly loss: number | null;
  /** Why it has none. */
  readonly reason?: string;
  /** Trained on. */
  readonly tokens: number;
  readonly seconds: number;
  readonly memoryBytes: number;
  readonly device: string;
  /** What products did on a GPU's tensor cores; absent: there were none. */
  readonly tensorCores?: 'exact' | 'f16';
  /** Mean training loss of consecutive stretches of equal length. */
  readonly curve: readonly number[];
}

/** What tells one training from another, whatever folder it is in. */
export function runKey(settings: Settings, run: RunName, textDigest: string): string {
  const parts = `${configDigest(settings.configOf(run, 'any'))} ${textDigest}`;
  return createHash('sha256').update(parts).digest('hex').slice(0, 16);
}

/** All lines of the file; none where there is no file. */
export async function readFinished(file: string): Promise<FinishedRun[]> {
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (cause) {
    if (systemCode(cause) === 'ENOENT') return [];
    throw fileError('read', file, cause);
  }
  return text.split('\n').flatMap((line) => {
    try {
      const value = JSON.parse(line) as Partial<FinishedRun> | null;
      return isRun(value) ? [value] : [];
    } catch {
      return [];
    }
  });
}

const isRun = (value: Partial<FinishedRun> | null): value is FinishedRun =>
  typeof value?.key === 'string' &&
  (value.loss === null || Number.isFinite(value.loss)) &&
  Number.isFinite(value.seconds) &&
  Number.isFinite(value.memoryBytes) &&
  Array.isArray(value.curve) &&
  value.curve.every(Number.isFinite);

export async function appendFinished(file: string, run: FinishedRun): Promise<void> {
  try {
    // a line of its own, also after one that was cut off
    const before = await readFile(file, 'utf8').catch(() => '');
    const start = before === '' || before.endsWith('\n') ? '' : '\n';
    await appendFile(file, `${start}${JSON.stringify(run)}\n`, { flush: true });
  } catch (cause) {
    throw fileError('write', file, cause);
  }
}
