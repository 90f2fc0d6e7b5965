// What a command file exports, and the parsers of option values that several commands share.

import type { Option } from 'commander';
import { userError } from '../errors.ts';
import type { Session } from './session.ts';

/** One command: what `--help` shows and what runs. */
export interface CommandDefinition {
  name: string;
  summary: string;
  /** commander syntax: `<model>`, `[name]`, `<models...>`. */
  arguments?: [name: string, description: string][];
  options?: Option[];
  examples: string[];
  /** Commands below this one, `subbyte laws fit`; without one of their names this one runs. */
  commands?: CommandDefinition[];
  run(session: Session, positionals: string[], options: Record<string, unknown>): Promise<void>;
}

/** A whole number ≥ 0; `400_000` is allowed. */
export function parseCount(text: string): number {
  const n = Number(text.replaceAll('_', ''));
  if (text.trim() === '' || !Number.isSafeInteger(n) || n < 0) {
    throw userError({
      code: 'not-a-count',
      op: 'options',
      problem: 'not a whole number',
      got: JSON.stringify(text),
      fix: 'give a number such as 512',
    });
  }
  return n;
}

/** A size in bytes: `4GB`, `512MiB`, `1e9`. */
export function parseBytes(text: string): number {
  const found = /^([\d.]+(?:e\d+)?)\s*([kmgt]?)(i?)b?$/i.exec(text.trim());
  const [, number = '', unit = '', binary = ''] = found ?? [];
  const bytes = Number(number) * (binary ? 1024 : 1000) ** ['', 'k', 'm', 'g', 't'].indexOf(unit.toLowerCase());
  if (!found || !Number.isFinite(bytes)) {
    throw userError({
      code: 'not-a-size',
      op: 'options',
      problem: 'not a size in bytes',
      got: JSON.stringify(text),
      fix: 'give a size such as 4GB or 512MiB',
    });
  }
  return Math.floor(bytes);
}

/** A finite number. */
export function parseNumber(text: string): number {
  const n = Number(text);
  if (text.trim() === '' || !Number.isFinite(n)) {
    throw userError({
      code: 'not-a-number',
      op: 'options',
      problem: 'not a number',
      got: JSON.stringify(text),
      fix: 'give a number such as 0.8',
    });
  }
  return n;
}

/** `a,b` → ['a', 'b']; repeated options accumulate. */
export function parseList(text: string, previous: string[] | undefined): string[] {
  const items = text
    .split(',')
    .map((s) => s.trim())
    .filter(Boolean);
  return [...(previous ?? []), ...items];
}

/** Repeatable option whose value may contain commas (patterns). */
export function parseRepeated(text: string, previous: string[] | undefined): string[] {
  return [...(previous ?? []), text];
}
