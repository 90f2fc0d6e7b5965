// Fields of settings: what each takes, what it is without being given, and what it means.
//
// One table of fields serves validation, defaults, the TypeScript types and the JSON Schema, so that they cannot differ.
// A field either gives its value or says in words what it expects; the caller adds the place.

import { inside, keyAt, type Place, printPath, printValue, unknownName, wrongAt, wrongValue } from './place.ts';

export type JsonSchema = Readonly<Record<string, unknown>>;

export interface Field<T> {
  /** One line for documentation and editors. */
  readonly doc: string;
  /** Without being given. Undefined: the key is left out, and null takes a value back. */
  readonly fallback: T;
  readonly schema: JsonSchema;
  /** Throws a user error when the value is none for this field. */
  read(value: unknown, place: Place): T;
}

export type Fields = Readonly<Record<string, Field<unknown>>>;

type Optional<F extends Fields> = { [K in keyof F]: undefined extends Value<F[K]> ? K : never }[keyof F];
type Value<F> = F extends Field<infer T> ? T : never;

/** What a table of fields gives after defaults. */
export type Values<F extends Fields> = {
  readonly [K in Exclude<keyof F, Optional<F>>]: Value<F[K]>;
} & { readonly [K in Optional<F>]?: Exclude<Value<F[K]>, undefined> };

interface NumberRange {
  readonly least: number;
  readonly most: number;
  /** `least` itself is no value. */
  readonly above?: boolean;
}

/** A number in a range; bounds are values too unless `above`. */
export function numberField(fallback: number, range: NumberRange, doc: string): Field<number> {
  return numeric(fallback, range, doc, 'number');
}

export function wholeField(fallback: number, range: NumberRange, doc: string): Field<number> {
  return numeric(fallback, range, doc, 'integer');
}

function numeric(fallback: number, range: NumberRange, doc: string, type: 'number' | 'integer'): Field<number> {
  const { least, most, above } = range;
  const bounds = above ? `above ${least} and at most ${most}` : `from ${least} to ${most}`;
  const expected = `a ${type === 'integer' ? 'whole ' : ''}number ${bounds}`;
  return {
    doc,
    fallback,
    schema: { type, [above ? 'exclusiveMinimum' : 'minimum']: least, maximum: most },
    read: (value, place) => {
      const fits =
        typeof value === 'number' &&
        (type === 'number' || Number.isInteger(value)) &&
        (above ? value > least : value >= least) &&
        value <= most;
      if (!fits) throw wrongValue(place, value, expected);
      return value === 0 ? 0 : value; // no −0, which YAML and JSON print in two ways
    },
  };
}

export function flagField(fallback: boolean, doc: string): Field<boolean> {
  return {
    doc,
    fallback,
    schema: { type: 'boolean' },
    read: (value, place) => {
      if (typeof value !== 'boolean') throw wrongValue(place, value, 'true or false');
      return value;
    },
  };
}

export function choiceField<const C extends string>(choices: readonly C[], fallback: C, doc: string): Field<C> {
  return {
    doc,
    fallback,
    schema: { enum: choices },
    read: (value, place) => {
      const found = choices.find((choice) => choice === value);
      if (found) return found;
      if (typeof value === 'string') throw unknownName(place, 'choice', value, choices, `for ${printPath(place)}`);
      throw wrongValue(place, value, `one of ${choices.join(', ')}`);
    },
  };
}

export const longestText = 4096;

/** The same field, which may be left out and then has no value. */
export const optional = <T>(field: Field<T>): Field<T | undefined> => ({ ...field, fallback: undefined });

/** A map of fields of its own. */
export const sectionField = (fields: Fields, doc: string): Field<Readonly<Record<string, unknown>>> => ({
  doc,
  fallback: {},
  schema: mapSchema(fields),
  read: (value, place) => readGiven(fields, value, place),
});

/** Text that may be left out. */
export function textField(doc: string): Field<string | undefined> {
  return { doc, fallback: undefined, schema: { type: 'string', minLength: 1 }, read: readText };
}

export function readText(value: unknown, place: Place): string {
  if (typeof value !== 'string' || value.length === 0 || value.length > longestText)
    throw wrongValue(place, value, `text of 1 to ${longestText} characters`, quoteHint(value));
  return value;
}

const quoteHint = (value: unknown) =>
  typeof value === 'number' || typeof value === 'boolean' ? `write "${value}" in quotes if text is meant` : undefined;

/** The map at a place with its keys checked; absent keys stay absent. */
export function readMap(value: unknown, place: Place, keys: readonly string[]): Readonly<Record<string, unknown>> {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw wrongValue(place, value, `a map with keys of ${keys.join(', ')}`);
  for (const key of Object.keys(value)) {
    if (keys.includes(key)) continue;
    const at = keyAt(place, key);
    if (keys.length === 0) throw wrongAt(at, { problem: `${printPath(place)} has no options`, got: printValue(key) });
    throw unknownName(at, 'key', key, keys, `in ${printPath(place)}`);
  }
  return value as Readonly<Record<string, unknown>>;
}

/** The given ones of a table's fields; `more` are keys that somebody else reads. */
export function readGiven(
  fields: Fields,
  value: unknown,
  place: Place,
  more: readonly string[] = [],
): Record<string, unknown> {
  const given = readMap(value, place, [...more, ...Object.keys(fields)]);
  const out: Record<string, unknown> = {};
  for (const [key, field] of Object.entries(fields)) {
    const entry = Object.hasOwn(given, key) ? given[key] : undefined;
    if (entry === undefined) continue;
    out[key] = entry === null && field.fallback === undefined ? null : field.read(entry, inside(place, key));
  }
  return out;
}

/** All fields of a table: those given, defaults for the rest; in the table's order. */
export function fillDefaults<F extends Fields>(fields: F, given: Readonly<Record<string, unknown>>): Values<F> {
  const out: Record<string, unknown> = {};
  for (const [key, field] of Object.entries(fields)) {
    const value = given[key] ?? field.fallback;
    if (value !== undefined) out[key] = value;
  }
  return out as Values<F>;
}

/** JSON Schema of a map with these fields. */
export function mapSchema(fields: Fields, doc?: string): JsonSchema {
  const properties = Object.entries(fields).map(([key, { schema, doc: description, fallback }]) => [
    key,
    fallback === undefined
      ? { description, anyOf: [schema, { type: 'null' }] }
      : { description, default: fallback, ...schema },
  ]);
  return {
    ...(doc !== undefined && { description: doc }),
    type: 'object',
    properties: Object.fromEntries(properties),
    additionalProperties: false,
  };
}
