// The entries of a recipe: formats, exceptions, calibration text, steps.
//
// Entries are read one file at a time, without defaults, so that an error names the file that holds the value; merging
// and defaults come after (recipe.ts). Formats are written back in their canonical spelling.

import { ggufPresets } from '../../models/gguf-presets.ts';
import {
  choiceField,
  type Field,
  type Fields,
  type JsonSchema,
  longestText,
  mapSchema,
  readGiven,
  textField,
  type Values,
  wholeField,
} from '../../settings/fields.ts';
import { inside, type Place } from '../../settings/place.ts';
import { type Activations, type ActivationsInput, activations } from './activations.ts';
import {
  type FormatRule,
  mostRules,
  patternSchema,
  readFormat,
  readList,
  readPattern,
  readRules,
  ruleSchema,
} from './format-rules.ts';
import { readSteps, type StepInput, stepListSchema } from './step-list.ts';
import type { Step } from './steps.ts';

const calibration = {
  text: textField('text, JSONL or Parquet file, or hf:datasets/org/name; absent: a sample that ships'),
  samples: wholeField(128, { least: 1, most: 2 ** 20 }, 'windows of text'),
  window: wholeField(512, { least: 2, most: 2 ** 20 }, 'tokens of a window'),
  sampling: choiceField(['start', 'spread', 'random'], 'start', 'where in the text the windows lie'),
  field: textField('field of JSONL objects, or column of Parquet; absent: text, or messages where there is no text'),
} satisfies Fields;

export type CalibrationOptions = Values<typeof calibration>;
export const calibrationFields: Fields = calibration;

/** A recipe before defaults, as files and programs may write it; null takes back what an extended recipe says. */
export interface RecipeOverrides {
  readonly format?: string | null;
  readonly activations?: ActivationsInput | null;
  readonly kv?: string | null;
  readonly exclude?: readonly string[];
  readonly layers?: readonly FormatRule[];
  readonly seed?: number;
  readonly calibration?: { readonly [K in keyof CalibrationOptions]?: CalibrationOptions[K] | null };
  readonly steps?: readonly StepInput[];
}

/** The same, checked: every step with all its options. */
export interface GivenEntries extends Omit<RecipeOverrides, 'steps' | 'activations'> {
  readonly activations?: Activations | null;
  readonly steps?: readonly Step[];
}

const format: Field<string | undefined> = {
  doc: "format of the decoder's linear layers, or one of llama.cpp's mixtures (q4_k_m)",
  fallback: undefined,
  schema: { type: 'string', minLength: 1 },
  read: (value, place) => readFormat(value, place, ggufPresets),
};

const exclude: Field<readonly string[]> = {
  doc: 'globs of tensors that stay as they are stored',
  fallback: [],
  schema: { type: 'array', maxItems: mostRules, items: patternSchema },
  read: (value, place) =>
    readList(value, place, 'a list of globs').map((glob, i) => readPattern(glob, inside(place, i))),
};

const layers: Field<readonly FormatRule[]> = {
  doc: 'exceptions: tensors by a regular expression, and their format; the last that matches holds',
  fallback: [],
  schema: ruleSchema,
  read: readRules,
};

const calibrationEntry: Field<object> = {
  doc: 'text on which activations are measured',
  fallback: {},
  schema: mapSchema(calibration),
  read: (value, place) => readGiven(calibration, value, place),
};

const stepEntry: Field<readonly Step[]> = {
  doc: 'what is done, in this order: rotate, smooth, awq, clip, gptq or hqq, imatrix, rtn',
  fallback: [{ rtn: {} }],
  schema: stepListSchema(),
  read: readSteps,
};

/** Every entry of a recipe. */
export const entries: Fields & Record<keyof RecipeOverrides, Field<unknown>> = {
  format,
  activations,
  kv: textField("formats of the KV cache, for example 'k=int4-channel-g32,v=int4-g32,residual=128'"),
  exclude,
  layers,
  seed: wholeField(0, { least: 0, most: 2 ** 32 - 1 }, 'key of all random numbers'),
  calibration: calibrationEntry,
  steps: stepEntry,
};

/** Checks what a file or a program says. Throws a user error that names the place. `more`: keys that are read elsewhere. */
export function readEntries(value: unknown, place: Place, more: readonly string[] = []): GivenEntries {
  return readGiven(entries, value, place, more) as GivenEntries;
}

/** `over` on top of `base`: maps merge, everything else is replaced. */
export function mergeEntries(base: GivenEntries, over: GivenEntries): GivenEntries {
  const merged = { ...base, ...over };
  if (!base.calibration && !over.calibration) return merged;
  return { ...merged, calibration: { ...base.calibration, ...over.calibration } };
}

/** JSON Schema of a recipe file, for editors. */
export function recipeSchema(): JsonSchema {
  const reference = { type: 'string', minLength: 1, maxLength: longestText };
  const base = mapSchema(entries);
  const extended = {
    description: 'a preset (subbyte:gptq), a recipe file, or a list of them, the later over the earlier',
    anyOf: [reference, { type: 'array', items: reference }],
  };
  return {
    $schema: 'https://json-schema.org/draft/2020-12/schema',
    title: 'subbyte recipe',
    ...base,
    properties: { extends: extended, ...(base.properties as object) },
  };
}
