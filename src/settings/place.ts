// Where in settings (a recipe, a training config) something stands, so that an error can point at it.
//
// A place is a path of keys (`steps[1].gptq.damping`) in a source. A source that was read from a file knows the line and
// column of each path; values that a program built have none.

import { type ErrorDetails, type SubbyteError, userError } from '../errors.ts';
import { nearest } from '../formats/edit-distance.ts';

export type PathStep = string | number;

/** What kind of settings a file holds; names its errors (`recipe-value`) and itself in them (`the recipe`). */
export type Subject = 'recipe' | 'config';

export interface Source {
  readonly subject: Subject;
  /** `recipe.yaml:3:7`, of the value at a path or of the key that it stands under; undefined without a file. */
  locate(path: readonly PathStep[], part: 'value' | 'key'): string | undefined;
}

export interface Place {
  readonly path: readonly PathStep[];
  readonly source: Source;
  /** The key itself is meant, not the value that stands under it. */
  readonly key?: boolean;
}

/** The whole of settings that a program built. */
export const withoutFile = (subject: Subject): Place => ({ path: [], source: { subject, locate: () => undefined } });

export const inside = ({ path, source }: Place, step: PathStep): Place => ({ path: [...path, step], source });
/** The key at a place. */
export const keyAt = (place: Place, key: string): Place => ({ ...inside(place, key), key: true });

/** `steps[1].gptq.damping`; the whole of a recipe is `the recipe`. */
export function printPath({ path, source }: Place): string {
  const text = path.map((step) => (typeof step === 'number' ? `[${step}]` : `.${step}`)).join('');
  return text === '' ? `the ${source.subject}` : text.replace(/^\./, '');
}

export type Details = Omit<ErrorDetails, 'op' | 'file' | 'code'> & { code?: string };

/** The error about the value (or the key) at a place. */
export function wrongAt(place: Place, details: Details): SubbyteError {
  const file = place.source.locate(place.path, place.key ? 'key' : 'value');
  const { subject } = place.source;
  return userError({ code: `${subject}-value`, op: subject, file, ...details });
}

/** The error about a value that is not what its field takes. */
export function wrongValue(place: Place, got: unknown, expected: string, fix?: string): SubbyteError {
  const name = printPath(place);
  if (got === undefined) return wrongAt(place, { problem: `${name} is missing`, expected, fix });
  return wrongAt(place, { problem: `${name} is wrong`, got: printValue(got), expected, fix });
}

/**
 * The error about a name that does not exist, with the most similar one that does.
 *
 * @param what step, preset, key or choice
 * @param where what follows the name in the sentence: `for steps[0].gptq.order`
 */
export function unknownName(
  place: Place,
  what: 'step' | 'preset' | 'key' | 'choice',
  name: string,
  known: readonly string[],
  where = '',
): SubbyteError {
  const close = nearest(name, known);
  const details: Details = {
    code: `${place.source.subject}-unknown-${what}`,
    problem: `there is no ${what} ${printValue(name)}${where && ` ${where}`}`,
    expected: `one of ${known.join(', ')}`,
    fix: close && `did you mean "${close}"?`,
  };
  return wrongAt(place, details);
}

/** A value in an error: short, whatever it is. */
export function printValue(value: unknown): string {
  if (Array.isArray(value)) return 'a list';
  if (value === null) return 'nothing';
  if (typeof value === 'object') return 'a map';
  const text = typeof value === 'string' ? JSON.stringify(value) : String(value);
  return text.length > 80 ? `${text.slice(0, 79)}…` : text;
}
