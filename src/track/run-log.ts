// The log of a run: JSON lines, appended as things happen.
//
// Every line is an object with `kind`; those of steps have `step`. When a run goes on from an earlier step, lines of
// later steps are taken back first, so the log never has a step twice; a half-written last line (a kill) goes too.

import { closeSync, openSync, readFileSync, renameSync, writeFileSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';
import { fileError, systemCode } from '../io/file-errors.ts';
import { makeFolder } from '../io/make-folder.ts';

export interface LogEntry {
  readonly kind: string;
  readonly step?: number;
  readonly [key: string]: unknown;
}

export interface RunLog {
  readonly path: string;
  write(entry: LogEntry): void;
  close(): void;
}

/** Opens a log for steps after `step`, keeping what it says of the steps until then. */
export async function openRunLog(path: string, step: number): Promise<RunLog> {
  let file: number;
  try {
    await makeFolder(dirname(path));
    const kept = readLog(path).filter((entry) => step > 0 && (entry.step ?? 0) <= step);
    // whole under another name first: a kill must not lose the log
    writeFileSync(`${path}.partial`, kept.map((entry) => `${JSON.stringify(entry)}\n`).join(''));
    renameSync(`${path}.partial`, path);
    file = openSync(path, 'a');
  } catch (cause) {
    throw fileError('write', path, cause);
  }
  return {
    path,
    write: (entry) => {
      try {
        writeSync(file, `${JSON.stringify(entry)}\n`);
      } catch (cause) {
        throw fileError('write', path, cause);
      }
    },
    close: () => closeSync(file),
  };
}

/** The entries of a log in their order; lines that are none, such as a half-written last one, are left out. */
export function readLog(path: string): LogEntry[] {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (cause) {
    if (systemCode(cause) === 'ENOENT') return [];
    throw fileError('read', path, cause);
  }
  return text.split('\n').flatMap((line) => {
    try {
      const entry: unknown = JSON.parse(line);
      const isEntry = typeof entry === 'object' && entry !== null && 'kind' in entry && typeof entry.kind === 'string';
      return isEntry ? [entry as LogEntry] : [];
    } catch {
      return [];
    }
  });
}
