// A training config: everything that decides a run, as plain JSON data with every default filled in.
//
// It comes from YAML, JSON or a TypeScript module (settings/load.ts has the rules of `extends`), or from a program, and
// changes by merging: maps merge, lists and values are replaced, null takes back. Two configs that print alike train
// alike on one backend.

import { createHash } from 'node:crypto';
import { stringify } from 'yaml';
import {
  choiceField,
  type Field,
  type Fields,
  fillDefaults,
  type JsonSchema,
  mapSchema,
  readGiven,
  sectionField,
  type Values,
  wholeField,
} from '../../settings/fields.ts';
import { loadSettings, parseSettings, type SettingsKind } from '../../settings/load.ts';
import { inside, type Place, withoutFile, wrongAt, wrongValue } from '../../settings/place.ts';
import { presetNames, presets } from './presets.ts';
import {
  batchFields,
  dataFields,
  modelFields,
  optimizerFields,
  outputFields,
  recipeFields,
  scheduleFields,
  seedFields,
} from './sections.ts';

const sections = {
  model: modelFields,
  data: dataFields,
  batch: batchFields,
  optimizer: optimizerFields,
  schedule: scheduleFields,
  recipe: recipeFields,
  seeds: seedFields,
  output: outputFields,
} satisfies Record<string, Fields>;

const docs: Record<keyof typeof sections, string> = {
  model: 'a new model by its sizes, or one whose training goes on',
  data: 'texts',
  batch: 'how much is computed together',
  optimizer: 'update rule',
  schedule: 'learning rate over the steps',
  recipe: 'precision of the linear layers',
  seeds: 'keys of all random numbers',
  output: 'what is written, where and how often',
};

const single = {
  steps: wholeField(1000, { least: 1, most: 1e9 }, 'updates of the weights'),
  device: choiceField(['auto', 'wasm', 'webgpu', 'reference'], 'auto', 'where to compute; auto: wasm'),
} satisfies Fields;

const entries: Fields = {
  ...Object.fromEntries(
    Object.entries(sections).map(([name, fields]) => [name, sectionField(fields, docs[name as keyof typeof docs])]),
  ),
  ...single,
} as Record<string, Field<unknown>>;

type Sections = { readonly [K in keyof typeof sections]: Values<(typeof sections)[K]> };

/** Every default filled in; what has no default is there only when given. */
export type TrainConfig = Sections & Values<typeof single>;

/** A config before defaults, as files and programs write it; null takes back what an extended config says. */
export type ConfigOverrides = {
  readonly [K in keyof TrainConfig]?: TrainConfig[K] extends object
    ? {
        readonly [F in keyof TrainConfig[K]]?:
          | TrainConfig[K][F]
          | null
          | (F extends 'train' | 'validation' ? string : never);
      }
    : TrainConfig[K];
};

type Given = Readonly<Record<string, unknown>>;

const kind: SettingsKind<Given> = {
  subject: 'config',
  presetNames,
  preset: (name) => presets[name],
  read: (value, place, more) => readGiven(entries, value, place, more),
  merge: (base, over) => {
    const merged: Record<string, unknown> = { ...base, ...over };
    for (const name of Object.keys(sections))
      if (base[name] && over[name]) merged[name] = { ...(base[name] as object), ...(over[name] as object) };
    return merged;
  },
};

/**
 * The config of a YAML or JSON file, a module, or a preset (`subbyte:llama-30m`), with changes on top.
 *
 * @throws user error with file, line and column for whatever is wrong in it
 * @example const config = await loadConfig('small.yaml', { steps: 20 });
 */
export async function loadConfig(reference: string, changes: ConfigOverrides = {}): Promise<TrainConfig> {
  return complete(await loadSettings(reference, kind), changes);
}

/** The config that a text holds; `file` gives messages a name and `extends` a folder. */
export async function parseConfigText(text: string, file = 'train.yaml'): Promise<TrainConfig> {
  return complete(await parseSettings(text, file, kind), {});
}

/** A config from what a program says. */
export const createConfig = (given: ConfigOverrides): TrainConfig => complete({}, given);

function complete(base: Given, changes: ConfigOverrides): TrainConfig {
  const place = withoutFile('config');
  const given = kind.merge(base, kind.read(changes, place, []));
  const filled = Object.entries(sections).map(([name, fields]) => [
    name,
    fillDefaults(fields as Fields, (given[name] ?? {}) as Given),
  ]);
  const config = { ...Object.fromEntries(filled), ...fillDefaults(single, given) } as TrainConfig;
  check(config, place);
  return config;
}

/** What single fields cannot say. */
function check({ model, data, optimizer, schedule, recipe }: TrainConfig, place: Place): void {
  const at = (section: string, key: string) => inside(inside(place, section), key);
  if (!data.train) throw wrongValue(at('data', 'train'), undefined, 'a text to train on');
  if (model.from === undefined) {
    for (const key of ['layers', 'hiddenSize', 'heads'] as const)
      if (model[key] === undefined)
        throw wrongValue(at('model', key), undefined, 'a size of the new model, or model.from');
    if (model.tokenizer === undefined)
      throw wrongValue(at('model', 'tokenizer'), undefined, 'a model folder or hub id whose tokenizer is used');
  } else {
    const size = ['layers', 'hiddenSize', 'heads', 'kvHeads', 'headDim', 'mlpSize', 'vocabSize', 'maxPositions'];
    const extra = size.find((key) => model[key as keyof typeof model] !== undefined);
    if (extra)
      throw wrongAt(at('model', extra), {
        problem: `model.from brings its own ${extra}`,
        fix: `leave out model.${extra}, or model.from`,
      });
  }
  if (schedule.kind === 'wsd' && schedule.warmup + schedule.decay > 1)
    throw wrongAt(at('schedule', 'decay'), {
      problem: 'schedule.warmup and schedule.decay are more than all steps together',
      got: schedule.warmup + schedule.decay,
      expected: 'at most 1',
    });
  const waits = recipe.phases.findIndex(({ noiseBelow }) => noiseBelow !== undefined);
  if (waits >= 0 && recipe.noiseEvery === undefined)
    throw wrongAt(at('recipe', 'noiseEvery'), {
      problem: `recipe.phases[${waits}].noiseBelow waits for a ratio that is not measured`,
      fix: 'set recipe.noiseEvery, 100 for example',
    });
  if (optimizer.nesterov && (optimizer.kind !== 'sgd' || optimizer.momentum === 0))
    throw wrongAt(at('optimizer', 'nesterov'), {
      problem: 'optimizer.nesterov needs kind sgd and a momentum',
      fix: 'set optimizer.momentum, 0.9 for example',
    });
}

/** The config with every default written out; loading it gives the same config. */
export function printConfig(config: TrainConfig, syntax: 'yaml' | 'json'): string {
  if (syntax === 'json') return `${JSON.stringify(config, undefined, 2)}\n`;
  return stringify(config, { lineWidth: 0, aliasDuplicateObjects: false });
}

/**
 * SHA-256, in hex, of what decides the weights after a given step, besides the tokens: nothing about where texts lie and
 * what is written where and how often.
 */
export function configDigest({ output: _, device: __, data, ...rest }: TrainConfig): string {
  const { shuffle } = data;
  return createHash('sha256')
    .update(JSON.stringify({ ...rest, shuffle }))
    .digest('hex');
}

/** JSON Schema of a config file, for editors. */
export function configSchema(): JsonSchema {
  const base = mapSchema(entries);
  const reference = { type: 'string', minLength: 1 };
  const extended = {
    description: 'a preset (subbyte:llama-30m), a config file, or a list of them, the later over the earlier',
    anyOf: [reference, { type: 'array', items: reference }],
  };
  return {
    $schema: 'https://json-schema.org/draft/2020-12/schema',
    title: 'subbyte training config',
    ...base,
    properties: { extends: extended, ...(base.properties as object) },
  };
}
