// What a training config can say, section by section: one table serves validation, defaults, types and the JSON Schema.

import {
  choiceField,
  type Field,
  type Fields,
  flagField,
  longestText,
  numberField,
  optional,
  readMap,
  readText,
  textField,
  type Values,
  wholeField,
} from '../../settings/fields.ts';
import { inside, type Place, printPath, wrongAt, wrongValue } from '../../settings/place.ts';
import { type RecipeName, recipeNames } from '../recipes/registry.ts';

const size = (doc: string, most = 2 ** 24) => optional(wholeField(1, { least: 1, most }, doc));
const share = (fallback: number, doc: string) => numberField(fallback, { least: 0, most: 1 }, doc);

const mostFiles = 10_000;

/** One text or a list of them. */
const texts: Field<readonly string[] | undefined> = {
  doc: 'text, JSONL or Parquet files, or hf:datasets/org/name, one or a list',
  fallback: undefined,
  schema: {
    anyOf: [
      { type: 'string', minLength: 1, maxLength: longestText },
      { type: 'array', minItems: 1, maxItems: mostFiles, items: { type: 'string', minLength: 1 } },
    ],
  },
  read: (value, place) => {
    if (!Array.isArray(value)) return [readText(value, place)];
    if (value.length === 0 || value.length > mostFiles) throw wrongValue(place, value, `1 to ${mostFiles} texts`);
    return value.map((one, i) => readText(one, inside(place, i)));
  },
};

export const modelFields = {
  from: textField('model folder or hub id whose weights are trained further; its config and tokenizer count too'),
  tokenizer: textField('model folder or hub id whose tokenizer is used; needed without from'),
  family: choiceField(['llama', 'mistral', 'qwen2', 'qwen3'], 'llama', 'architecture of a new model'),
  layers: size('blocks', 1024),
  hiddenSize: size('C, width of the residual stream'),
  heads: size('H, query heads', 65_536),
  kvHeads: size('G, key and value heads; absent: as many as heads', 65_536),
  headDim: size('D; absent: hiddenSize / heads', 65_536),
  mlpSize: size('hidden width of the gated MLP; absent: ⌊8 · hiddenSize / 3⌋ rounded up to a multiple of 256'),
  vocabSize: size("V; absent: the tokenizer's"),
  maxPositions: size('positions that the model is made for; absent: batch.tokens'),
  ropeBase: numberField(10_000, { least: 1, most: 1e9 }, 'base of the rotary frequencies'),
  epsilon: numberField(1e-5, { least: 0, most: 1, above: true }, 'ε of RMSNorm'),
  tiedEmbeddings: flagField(false, 'the head is the embedding table'),
  initStd: numberField(0.02, { least: 0, most: 10, above: true }, 'weights start as N(0, initStd²)'),
  initResidualScale: flagField(true, 'o_proj and down_proj start with initStd / √(2 · layers)'),
} satisfies Fields;

export const dataFields = {
  train: texts,
  validation: { ...texts, doc: 'held-out texts, one or a list; absent: no validation loss' },
  field: textField('field of JSONL objects, or column of Parquet; absent: text, or messages where there is no text'),
  cache: { ...textField('folder of the tokenized files'), fallback: 'tokens' as string | undefined },
  endOfText: flagField(true, "the tokenizer's end-of-text token follows each document"),
  shuffle: flagField(true, 'windows in a random order, drawn anew for every epoch; false: as they stand'),
} satisfies Fields;

export const batchFields = {
  sequences: wholeField(8, { least: 1, most: 65_536 }, 'windows computed together'),
  tokens: wholeField(512, { least: 2, most: 2 ** 20 }, 'T, tokens of a window'),
  accumulate: wholeField(1, { least: 1, most: 65_536 }, 'batches whose gradients make one step'),
  recompute: flagField(false, 'compute blocks again for the backward pass instead of keeping their values'),
} satisfies Fields;

export const optimizerFields = {
  kind: choiceField(['adamw', 'sgd'], 'adamw', 'update rule'),
  beta1: numberField(0.9, { least: 0, most: 0.999_999 }, 'decay of the first moment (adamw)'),
  beta2: numberField(0.95, { least: 0, most: 0.999_999 }, 'decay of the second moment (adamw)'),
  epsilon: numberField(1e-8, { least: 0, most: 1 }, 'added to the root of the second moment (adamw)'),
  momentum: numberField(0, { least: 0, most: 0.999_999 }, 'momentum (sgd)'),
  nesterov: flagField(false, "Nesterov's momentum (sgd)"),
  weightDecay: numberField(
    0.1,
    { least: 0, most: 1000 },
    'decoupled for adamw; of matrices, never of norms and biases',
  ),
  decayEmbeddings: flagField(false, 'embedding and head decay too'),
  clipNorm: optional(
    numberField(1, { least: 0, most: 1e9, above: true }, 'bound of the norm of all gradients together'),
  ),
  masterWeights: choiceField(
    ['f32', 'bf16'],
    'f32',
    'values that weights can have between steps; bf16: rounded stochastically after each step',
  ),
} satisfies Fields;

export const scheduleFields = {
  kind: choiceField(['cosine', 'wsd', 'linear', 'constant'], 'cosine', 'shape of the learning rate after warm-up'),
  learningRate: numberField(1e-3, { least: 0, most: 1000, above: true }, 'peak'),
  warmup: share(0.1, 'share of the steps in which it rises to the peak'),
  start: share(0.01, 'where it starts, as a share of the peak'),
  final: share(0.1, 'where it ends, as a share of the peak'),
  decay: share(0.2, 'share of the steps in which it falls (wsd)'),
} satisfies Fields;

/** Layers by a regular expression that is searched for in their names, and what trains them. */
export interface LayerRule {
  readonly match: string;
  readonly use: RecipeName;
}

/** What trains the layers once a share of the steps is done, or gradients have sunk into their rounding noise. */
export interface PhaseRule {
  readonly from?: number;
  readonly noiseBelow?: number;
  /** The learning rate's schedule starts over and lasts the steps that remain. */
  readonly restart?: boolean;
  readonly use: RecipeName;
}

const recipeName = (doc: string) => choiceField(recipeNames, 'f32', doc);
const mostRules = 1000;
const longestPattern = 500;

const layerRules: Field<readonly LayerRule[]> = {
  doc: 'exceptions: linear layers by a regular expression on their names, and their recipe; the last that matches holds',
  fallback: [],
  schema: {
    type: 'array',
    maxItems: mostRules,
    items: {
      type: 'object',
      properties: { match: { type: 'string', format: 'regex', maxLength: longestPattern }, use: { enum: recipeNames } },
      required: ['match', 'use'],
      additionalProperties: false,
    },
  },
  read: (value, place) =>
    readRules(
      value,
      place,
      ({ match, use }, at) => {
        const pattern = readText(match, inside(at, 'match'));
        if (pattern.length > longestPattern) throw wrongValue(inside(at, 'match'), pattern, 'a shorter pattern');
        try {
          new RegExp(pattern);
        } catch {
          throw wrongValue(inside(at, 'match'), pattern, 'a regular expression', 'escape special characters');
        }
        return { match: pattern, use: recipeName('').read(use, inside(at, 'use')) };
      },
      ['match', 'use'],
    ),
};

const phaseKeys = ['from', 'noiseBelow', 'restart', 'use'] as const;
const phaseStart = share(0, '');
const phaseNoise = numberField(Math.sqrt(3), { least: 0, most: 1e6, above: true }, '');
const phaseRestart = flagField(false, '');

const phaseRules: Field<readonly PhaseRule[]> = {
  doc: 'later phases, which change the recipe of layers without exception: from this share of the steps on, or once the mean of the last three gradient-to-noise ratios is below noiseBelow, whichever is first; restart: the learning rate starts over',
  fallback: [],
  schema: {
    type: 'array',
    maxItems: mostRules,
    items: {
      type: 'object',
      properties: {
        from: phaseStart.schema,
        noiseBelow: phaseNoise.schema,
        restart: phaseRestart.schema,
        use: { enum: recipeNames },
      },
      required: ['use'],
      anyOf: [{ required: ['from'] }, { required: ['noiseBelow'] }],
      additionalProperties: false,
    },
  },
  read: (value, place) => {
    const rules = readRules(value, place, readPhase, phaseKeys);
    let latest = -1;
    for (const [i, { from = latest }] of rules.entries()) {
      if (rules[i].from !== undefined && from <= latest)
        throw wrongValue(inside(inside(place, i), 'from'), from, 'a later start than that of the phase before');
      latest = from;
    }
    return rules;
  },
};

function readPhase(given: Readonly<Record<string, unknown>>, at: Place): PhaseRule {
  if (given.from === undefined && given.noiseBelow === undefined)
    throw wrongAt(at, { problem: `${printPath(at)} says not when it begins`, fix: 'give from, noiseBelow or both' });
  const read = <T>(key: (typeof phaseKeys)[number], field: Field<T>) =>
    given[key] === undefined ? {} : { [key]: field.read(given[key], inside(at, key)) };
  return {
    ...read('from', phaseStart),
    ...read('noiseBelow', phaseNoise),
    ...read('restart', phaseRestart),
    use: recipeName('').read(given.use, inside(at, 'use')),
  };
}

function readRules<T>(
  value: unknown,
  place: Place,
  read: (rule: Readonly<Record<string, unknown>>, at: Place) => T,
  keys: readonly string[],
): T[] {
  if (!Array.isArray(value) || value.length > mostRules)
    throw wrongValue(place, value, `a list of at most ${mostRules} maps with keys of ${keys.join(', ')}`);
  return value.map((rule, i) => read(readMap(rule, inside(place, i), keys), inside(place, i)));
}

export const recipeFields = {
  use: recipeName('how the linear layers are computed, forward and backward'),
  layers: layerRules,
  phases: phaseRules,
  noiseEvery: optional(
    wholeField(100, { least: 1, most: 1e9 }, 'steps between measurements of the gradient-to-noise ratio; absent: none'),
  ),
} satisfies Fields;

export const seedFields = {
  init: wholeField(0, { least: 0, most: 2 ** 32 - 1 }, 'of the first weights'),
  data: wholeField(0, { least: 0, most: 2 ** 32 - 1 }, 'of the order of the windows'),
  rounding: wholeField(0, { least: 0, most: 2 ** 32 - 1 }, 'of stochastic rounding and random signs'),
} satisfies Fields;

export const outputFields = {
  folder: { ...textField('where checkpoints, logs and the model go'), fallback: 'run' as string | undefined },
  saveEvery: wholeField(500, { least: 1, most: 1e9 }, 'steps between checkpoints'),
  keep: wholeField(2, { least: 1, most: 1000 }, 'checkpoints that stay'),
  logEvery: wholeField(1, { least: 1, most: 1e9 }, 'steps between lines of the run log'),
  evaluateEvery: wholeField(500, { least: 1, most: 1e9 }, 'steps between validation losses; one is taken at the end'),
  evaluateTokens: wholeField(65_536, { least: 2, most: 2 ** 31 }, 'tokens of the held-out text that are used'),
  tensorboard: flagField(true, 'write TensorBoard event files'),
  dtype: choiceField(['bf16', 'f32'], 'bf16', 'of the weights in the finished model'),
} satisfies Fields;

export type ModelOptions = Values<typeof modelFields>;
export type DataOptions = Values<typeof dataFields>;
export type BatchOptions = Values<typeof batchFields>;
export type OptimizerSettings = Values<typeof optimizerFields>;
export type ScheduleOptions = Values<typeof scheduleFields>;
export type RecipeOptions = Values<typeof recipeFields>;
export type SeedOptions = Values<typeof seedFields>;
export type OutputOptions = Values<typeof outputFields>;
