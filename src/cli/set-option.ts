// `--set section.entry=value`: entries of a config, by their places, as nested data.

import { parse } from 'yaml';
import { userError } from '../errors.ts';

/**
 * Adds entries such as `schedule.learningRate=1e-3` to `base`, in place; values are read as in a config file.
 *
 * @throws user error for a text that is no entry with a value
 */
export function readEntries(texts: readonly string[], base: Record<string, unknown> = {}): Record<string, unknown> {
  for (const text of texts) {
    const [, name = '', value = ''] = /^([a-z]\w*(?:\.[a-z]\w*)*)=(.*)$/is.exec(text) ?? [];
    if (name === '')
      throw userError({
        code: 'set-syntax',
        op: 'options',
        problem: '--set takes an entry and a value',
        got: JSON.stringify(text.slice(0, 80)),
        fix: "write --set 'schedule.learningRate=1e-3'",
      });
    const keys = name.split('.');
    let at = base;
    for (const key of keys.slice(0, -1)) at = (at[key] ??= {}) as Record<string, unknown>;
    at[keys[keys.length - 1]] = readValue(value);
  }
  return base;
}

/** A value as in a config file; text that is no YAML is that text. */
function readValue(text: string): unknown {
  try {
    return parse(text);
  } catch {
    return text;
  }
}
