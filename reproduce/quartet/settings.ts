// What the study trains: the schemes, the model, the tokens, by scale. Every number can be changed from the command line.

import { userError } from '../../src/errors.ts';
import type { StudyOptions } from '../../src/report/reproduction.ts';
import { type ConfigOverrides, createConfig, type TrainConfig } from '../../src/train/config/config.ts';
import { type RecipeName, recipeNames } from '../../src/train/recipes/registry.ts';

/** What all others are compared with. */
export const baseline = 'bf16';

/** The schemes that the orderings name. */
export const schemes = [
  'forward-rtn',
  'quest',
  'forward-sr',
  'backward-sr',
  'backward-rtn',
  'backward-pma',
  'backward-quest',
  'quartet',
  'quartet-nearest',
] as const satisfies readonly RecipeName[];

/** Trained first, in this order, for all seeds: Quartet, its halves, and what they are compared with. */
const core: readonly RecipeName[] = [
  baseline,
  'quartet',
  'quest',
  'backward-sr',
  'forward-rtn',
  'forward-sr',
  'quartet-nearest',
];

/** Schemes whose distance is compared between short and long trainings. */
const shortSchemes: readonly RecipeName[] = ['backward-sr', 'backward-rtn'];

export interface Scale {
  readonly seeds: number;
  readonly schemes: readonly RecipeName[];
  readonly config: ConfigOverrides;
  readonly tokenizer: string;
  /** Sizes of the tests that train nothing. */
  readonly tests: TestSizes;
}

export interface TestSizes {
  /** Values of the Gaussian tests. */
  readonly values: number;
  /** Roundings that are averaged, a power of 4. */
  readonly roundings: number;
  /** Backward passes that are averaged, a power of 4. */
  readonly passes: number;
  /** Windows of 128 tokens, and passes over them, of the gradients by depth. */
  readonly windows: number;
  readonly draws: number;
}

const model = { family: 'llama', ropeBase: 10_000, epsilon: 1e-5 } as const;
const optimizer = { kind: 'adamw', beta1: 0.9, beta2: 0.95, weightDecay: 0.1, clipNorm: 1 } as const;
const cosine = { kind: 'cosine', warmup: 0.1, start: 0.01, final: 0.1 } as const;

export const scales: Readonly<Record<string, Scale>> = {
  tiny: {
    seeds: 3,
    schemes,
    tokenizer: 'bytes',
    config: {
      model: { ...model, layers: 1, hiddenSize: 64, heads: 2, mlpSize: 192 },
      batch: { sequences: 32, tokens: 32 },
      optimizer,
      schedule: { ...cosine, learningRate: 4e-3 },
      steps: 280,
      output: { evaluateTokens: 16_384, saveEvery: 1_000_000 },
    },
    tests: { values: 2 ** 20, roundings: 256, passes: 64, windows: 4, draws: 2 },
  },
  h100: {
    seeds: 3,
    schemes: [...schemes, 'quartet-signs-last'],
    tokenizer: 'shipped',
    config: {
      model: { ...model, layers: 4, hiddenSize: 192, heads: 3, mlpSize: 512 },
      batch: { sequences: 64, tokens: 512 },
      optimizer,
      schedule: { ...cosine, learningRate: 4e-3 },
      steps: 800,
      output: { evaluateTokens: 2 ** 20, saveEvery: 1_000_000 },
    },
    tests: { values: 2 ** 22, roundings: 1024, passes: 256, windows: 32, draws: 4 },
  },
};

export interface Settings extends Scale {
  readonly name: string;
  /** The training config of a run; `folder` takes its checkpoints and log. */
  configOf(run: RunName, folder: string): TrainConfig;
  /** Trainings in the order in which they are made: the schemes that say most, then the others; each seed by seed. */
  readonly runs: readonly RunName[];
  /** Steps of the long trainings; the short ones have a quarter. */
  readonly steps: number;
  readonly shortSteps: number;
}

export interface RunName {
  readonly scheme: RecipeName;
  readonly seed: number;
  readonly steps: number;
}

/** Throws a user error for a scale, a scheme or an entry that does not exist. */
export function readSettings(options: StudyOptions, firstSeed: number): Settings {
  const { scale: name = 'tiny', changes = {}, schemes: chosen, seeds: wanted } = options;
  const scale = Object.hasOwn(scales, name) ? scales[name] : undefined;
  if (!scale) throw wrongOption('scale', JSON.stringify(name), Object.keys(scales).join(' or '));
  const seeds = wanted ?? scale.seeds;
  if (seeds < 1 || seeds > 1000) throw wrongOption('seeds', String(seeds), 'from 1 to 1000');
  const own = ['recipe', 'seeds', 'data', 'output', 'device'].find((section) => section in changes);
  if (own) throw wrongOption('set', own, 'an entry of model, batch, optimizer or schedule, or steps');
  const found = (chosen ?? scale.schemes).map(readScheme).filter((scheme) => scheme !== baseline);
  const all: readonly RecipeName[] = [baseline, ...new Set(found)];
  const base = merge(merge(scale.config, changes), {
    data: { train: 'texts of the study' },
    model: { tokenizer: options.tokenizer ?? scale.tokenizer },
  });
  const { steps } = createConfig(base);
  const configOf = (run: RunName, folder: string) =>
    createConfig(
      merge(base, {
        recipe: { use: run.scheme },
        seeds: { init: run.seed, data: run.seed, rounding: run.seed },
        steps: run.steps,
        output: { folder, keep: 1, tensorboard: false, evaluateEvery: 1e9 },
      }),
    );
  const shortSteps = Math.max(1, Math.floor(steps / 4));
  const short = shortSchemes.every((scheme) => all.includes(scheme)) ? shortSchemes : [];
  const first = core.filter((scheme) => all.includes(scheme)).map((scheme) => ({ scheme, steps }));
  const later = [
    ...all.filter((scheme) => !core.includes(scheme)).map((scheme) => ({ scheme, steps })),
    ...short.map((scheme) => ({ scheme, steps: shortSteps })),
  ];
  const allSeeds = Array.from({ length: seeds }, (_, i) => firstSeed + i);
  const runs = [first, later].flatMap((part) => allSeeds.flatMap((seed) => part.map((run) => ({ ...run, seed }))));
  return { ...scale, name, seeds, schemes: all, configOf, runs, steps, shortSteps };
}

/** Sections merge, what `over` says holds. */
function merge(base: ConfigOverrides, over: object): ConfigOverrides {
  const merged: Record<string, unknown> = { ...base };
  for (const [name, value] of Object.entries(over)) {
    const isSection = typeof value === 'object' && value !== null && !Array.isArray(value);
    merged[name] = isSection ? { ...(merged[name] as object | undefined), ...value } : value;
  }
  return merged as ConfigOverrides;
}

function readScheme(name: string): RecipeName {
  const found = recipeNames.find((known) => known === name);
  if (found) return found;
  throw wrongOption('schemes', JSON.stringify(name), `some of ${recipeNames.join(', ')}`);
}

function wrongOption(option: string, got: string, expected: string) {
  return userError({
    code: `study-${option}`,
    op: 'reproduce quartet',
    problem: `--${option} is none of the study's`,
    got,
    expected,
  });
}
