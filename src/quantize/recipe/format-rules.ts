// Rules of recipes that give tensors formats by name, and the texts that they are made of: formats, patterns, lists.

import { SubbyteError } from '../../errors.ts';
import { nearest } from '../../formats/edit-distance.ts';
import { formatName, parseFormat } from '../../formats/registry.ts';
import { readMap, readText } from '../../settings/fields.ts';
import { inside, type Place, wrongAt, wrongValue } from '../../settings/place.ts';

/** Tensors by a regular expression that is searched for in their names, and their format. */
export interface FormatRule {
  readonly match: string;
  readonly format: string;
}

export const mostRules = 1000;
const longestPattern = 500;
export const patternSchema = { type: 'string', minLength: 1, maxLength: longestPattern };
export const formatSchema = { type: 'string', minLength: 1, description: 'a name of `subbyte formats`' };
export const ruleSchema = {
  type: 'array',
  maxItems: mostRules,
  items: {
    type: 'object',
    properties: { match: { ...patternSchema, format: 'regex' }, format: formatSchema },
    required: ['match', 'format'],
    additionalProperties: false,
  },
};

/** The canonical name of a format, or one of `mixtures`. */
export function readFormat(value: unknown, place: Place, mixtures: readonly string[] = []): string {
  const text = readText(value, place);
  const mixture = mixtures.find((name) => name === text.trim().toLowerCase());
  if (mixture) return mixture;
  try {
    return formatName(parseFormat(text));
  } catch (cause) {
    if (!(cause instanceof SubbyteError)) throw cause;
    const { code, problem, got, expected, fix } = cause.details;
    const close = nearest(text, mixtures);
    throw wrongAt(place, { code, problem, got, expected, fix: close ? `did you mean "${close}"?` : fix });
  }
}

export function readRules(value: unknown, place: Place): FormatRule[] {
  return readList(value, place, 'a list of { match, format }').map((rule, i) => {
    const at = inside(place, i);
    const { match, format } = readMap(rule, at, ['match', 'format']);
    return { match: readRegex(match, inside(at, 'match')), format: readFormat(format, inside(at, 'format')) };
  });
}

export function readRegex(value: unknown, place: Place): string {
  const pattern = readPattern(value, place);
  try {
    new RegExp(pattern);
  } catch (cause) {
    throw wrongAt(place, {
      problem: `${JSON.stringify(pattern)} is not a regular expression (${(cause as Error).message.split(': ').pop()})`,
      fix: 'escape special characters with a backslash',
    });
  }
  return pattern;
}

export function readList(value: unknown, place: Place, expected: string): readonly unknown[] {
  if (!Array.isArray(value)) throw wrongValue(place, value, expected);
  if (value.length <= mostRules) return value;
  throw wrongAt(place, { problem: 'a list is too long', got: value.length, expected: `at most ${mostRules} entries` });
}

export function readPattern(value: unknown, place: Place): string {
  const text = readText(value, place);
  if (text.length <= longestPattern) return text;
  throw wrongValue(place, text, `at most ${longestPattern} characters`);
}
