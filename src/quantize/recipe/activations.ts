// The entry `activations`: how the inputs of linear layers are rounded.
//
//   activations: int8-token                                    ranges of each token while the model runs
//   activations: int8-tensor:static:percentile                 short for the next one, also on the command line
//   activations: { format: int8-tensor, ranges: static, clip: percentile }
//   activations: [{ match: down_proj, format: int8-tensor, ranges: static }]
//
// Static ranges are found on the calibration text: one for the inputs of all layers that read the same values. `clip`
// says how far the range reaches; ../ranges/input-range.ts has the rules. What is read is canonical: a format alone
// where nothing is static, otherwise every option that holds.

import { fixedScaleFormats, takesFixedScale } from '../../formats/fixed-scale.ts';
import { parseFormat } from '../../formats/registry.ts';
import { isInt } from '../../formats/table.ts';
import {
  choiceField,
  type Field,
  type Fields,
  fillDefaults,
  type JsonSchema,
  mapSchema,
  numberField,
  readGiven,
  readMap,
  type Values,
} from '../../settings/fields.ts';
import { inside, type Place, unknownName, wrongAt, wrongValue } from '../../settings/place.ts';
import {
  type FormatRule,
  formatSchema,
  mostRules,
  patternSchema,
  readFormat,
  readList,
  readRegex,
} from './format-rules.ts';

export const clipRules = ['minmax', 'percentile', 'mse', 'kl'] as const;
export type ClipRule = (typeof clipRules)[number];

const ranges = {
  ranges: choiceField(
    ['dynamic', 'static'],
    'dynamic',
    'dynamic: from the values, while the model runs; static: fixed on the calibration text, one for each input',
  ),
  clip: choiceField(
    clipRules,
    'minmax',
    'how far a static range reaches: to the extremes, to a percentile, where the squared error or the divergence is smallest',
  ),
  percentile: numberField(
    99.99,
    { least: 50, most: 100 },
    'share of the magnitudes, in percent, that clip: percentile covers',
  ),
} satisfies Fields;

type RangeOptions = Values<typeof ranges>;

/** A static range of the inputs, canonical: `percentile` where clip is percentile. */
export interface StaticChoice {
  readonly format: string;
  readonly ranges: 'static';
  readonly clip: ClipRule;
  readonly percentile?: number;
}

/** The entry as it may be written. */
type ChoiceInput = { readonly format: string } & Partial<RangeOptions>;
export type ActivationsInput = string | ChoiceInput | readonly ({ readonly match: string } & ChoiceInput)[];

/** Layers by a regular expression, and how their inputs are rounded. */
export type ActivationEntry = FormatRule | ({ readonly match: string } & StaticChoice);
/** The entry as it is read. */
export type Activations = string | StaticChoice | readonly ActivationEntry[];

export const isStatic = <T extends object>(choice: T): choice is T & StaticChoice => 'ranges' in choice;

/** One rule for each part of the entry; a single choice holds for all layers. */
export function activationEntries(given: Activations | undefined): readonly ActivationEntry[] {
  if (given === undefined) return [];
  if (typeof given === 'string') return [{ match: '.', format: given }];
  return 'format' in given ? [{ match: '.', ...given }] : given;
}

export const activations: Field<Activations | undefined> = {
  doc: "how the linear layers' inputs are rounded: a format (int8-token, int8-tensor:static), a map of options, or rules for layers by name, the last that matches holds; absent: f32",
  fallback: undefined,
  schema: {
    anyOf: [
      { type: 'string', minLength: 1 },
      choiceSchema({}),
      { type: 'array', maxItems: mostRules, items: choiceSchema({ match: { ...patternSchema, format: 'regex' } }) },
    ],
  },
  read(value, place) {
    if (typeof value === 'string') return readShort(value, place);
    if (Array.isArray(value))
      return readList(value, place, 'a list of rules').map((r, i) => readRule(r, inside(place, i)));
    if (typeof value !== 'object' || value === null)
      throw wrongValue(place, value, 'a format, { format, ranges, clip }, or a list of rules with match');
    const choice = readChoice(value, place);
    return isStatic(choice) ? choice : choice.format;
  },
};

function choiceSchema(more: Readonly<Record<string, JsonSchema>>): JsonSchema {
  const base = mapSchema(ranges);
  const properties = { ...more, format: formatSchema, ...(base.properties as object) };
  return { ...base, properties, required: [...Object.keys(more), 'format'] };
}

/** `int8-token`, `int8-tensor:static`, `int8-tensor:static:percentile` */
function readShort(text: string, place: Place): string | StaticChoice {
  const [format, word, clip, ...more] = text.split(':').map((part) => part.trim());
  if (word === undefined) return readFormat(format, place);
  if (more.length > 0) throw wrongValue(place, text, 'FORMAT:static or FORMAT:static:CLIP');
  if (word !== 'static') throw unknownName(place, 'choice', word, ['static'], 'behind a format');
  const given = { ranges: word, clip: clip === undefined ? undefined : ranges.clip.read(clip, place) };
  return choiceOf(readFormat(format, place), given, place) as StaticChoice;
}

function readRule(value: unknown, place: Place): ActivationEntry {
  const match = readRegex(
    readMap(value, place, ['match', 'format', ...Object.keys(ranges)]).match,
    inside(place, 'match'),
  );
  return { match, ...readChoice(value, place, ['match']) };
}

function readChoice(value: unknown, place: Place, more: readonly string[] = []): { format: string } | StaticChoice {
  const given = readGiven(ranges, value, place, [...more, 'format']);
  const format = readFormat((value as { format?: unknown }).format, inside(place, 'format'));
  return choiceOf(format, given, place);
}

/** Options that do not belong together are refused: each of them would change nothing. */
function choiceOf(format: string, given: Record<string, unknown>, place: Place): { format: string } | StaticChoice {
  const options = fillDefaults(ranges, given);
  const { clip, percentile } = options;
  const unused = (key: string, of: string) =>
    wrongAt(inside(place, key), { problem: `${key} is for ${of}`, fix: `add ${of}, or leave out ${key}` });
  if (given.percentile !== undefined && clip !== 'percentile') throw unused('percentile', 'clip: percentile');
  if (options.ranges === 'dynamic') {
    if (given.clip !== undefined) throw unused('clip', 'ranges: static');
    return { format };
  }
  checkStatic(format, clip, place);
  return { format, ranges: 'static', clip, ...(clip === 'percentile' && { percentile }) };
}

function checkStatic(name: string, clip: ClipRule, place: Place): void {
  const format = parseFormat(name);
  if (!takesFixedScale(format)) {
    const element = /^int\d/.exec(name)?.[0] ?? 'fp8-e4m3';
    throw wrongAt(place, {
      problem: 'a static range is one for the whole input, and this format has other scales',
      got: name,
      expected: fixedScaleFormats,
      fix: `write ${element}-tensor`,
    });
  }
  const symmetric = format.zeroPoint === 'none';
  if (clip === 'mse' ? symmetric : clip !== 'kl' || (symmetric && isInt(format.element))) return;
  throw wrongAt(place, {
    problem: `clip: ${clip} is defined for symmetric ${clip === 'kl' ? 'integers' : 'formats'}`,
    got: name,
    fix: 'take minmax or percentile',
  });
}
