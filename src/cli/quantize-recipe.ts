// The recipe of a `subbyte quantize` call: a file or a method's name, changed by the options that were given.

import { Option } from 'commander';
import { userError } from '../errors.ts';
import { formatName } from '../formats/registry.ts';
import { type KvChoice, printKvScheme } from '../models/kv-scheme.ts';
import type { RecipeOverrides } from '../quantize/recipe/entries.ts';
import { createRecipe, mergeRecipe, type Recipe } from '../quantize/recipe/recipe.ts';
import { parseTensorRule } from '../quantize/rules.ts';
import { parseCount, parseRepeated } from './command.ts';
import { kvOption } from './kv-option.ts';

export interface RecipeOptions {
  recipe?: string;
  method?: string;
  tensorType?: string[];
  exclude?: string[];
  activations?: string;
  kv?: KvChoice;
  calib?: string;
  calibField?: string;
  samples?: number;
  sampling?: 'start' | 'spread' | 'random';
  window?: number;
  imatrix?: string;
  saveImatrix?: string;
}

export const recipeOptions = (): Option[] => [
  new Option('-r, --recipe <file>', 'recipe (YAML or JSON), or a preset such as subbyte:gptq; docs/recipes.md'),
  new Option(
    '-m, --method <names>',
    'rtn, gptq, gptaq, awq, smoothquant, quarot, mr-gptq, hqq, imatrix or steps, joined by +',
  ),
  new Option('--tensor-type <pattern=spec>', "exception, repeatable: 'down_proj=q8_0'").argParser(parseRepeated),
  new Option('--exclude <glob>', "keep as stored, repeatable: '*.layers.0.*'").argParser(parseRepeated),
  new Option(
    '--activations <spec>',
    "how the layers' inputs are rounded: int8-token, mxfp4, ..., or int8-tensor:static[:percentile|mse|kl]",
  ),
  kvOption(),
  new Option('--calib <text>', 'calibration text: file, JSONL, Parquet or hf:datasets/org/name (default: a sample)'),
  new Option('--calib-field <name>', 'field of its records (default: text, else messages)'),
  new Option('--samples <n>', 'calibration windows (default: 128)').argParser(parseCount),
  new Option('--sampling <where>', 'where in the text they lie (default: start)').choices([
    'start',
    'spread',
    'random',
  ]),
  new Option('--imatrix <file>', 'importances from an imatrix file of llama.cpp, for its block types'),
  new Option('--save-imatrix <file>', 'measure importances and write them for llama.cpp (.gguf, or .dat)'),
];

/**
 * The recipe that the options mean; `seed` where one was given.
 *
 * Throws a user error for options that exclude each other, and what reading a recipe throws.
 */
export async function recipeOf(options: RecipeOptions, seed: number | undefined): Promise<Recipe> {
  if (options.recipe !== undefined && options.method !== undefined)
    throw userError({
      code: 'recipe-and-method',
      op: 'quantize',
      problem: '--recipe and --method both say what to do',
      fix: 'leave one out, or write the steps into the recipe',
    });
  const base = await baseOf(options);
  return mergeRecipe(base, overridesOf(base, options, seed));
}

async function baseOf({ recipe, method, imatrix, saveImatrix }: RecipeOptions): Promise<Recipe> {
  if (recipe !== undefined) return (await import('../quantize/recipe/load.ts')).loadRecipe(recipe);
  const asked = imatrix !== undefined || saveImatrix !== undefined;
  if (method === undefined && !asked) return createRecipe();
  const { recipeFromMethod } = await import('../quantize/recipe/method.ts');
  if (!asked) return recipeFromMethod(method as string);
  const names = (method ?? 'imatrix').split('+').map((name) => name.trim());
  return recipeFromMethod([...new Set([...names, 'imatrix'])].join('+'));
}

function overridesOf(base: Recipe, options: RecipeOptions, seed: number | undefined): RecipeOverrides {
  const { activations, kv, calib, calibField, samples, sampling, window, imatrix, saveImatrix } = options;
  const layers = (options.tensorType ?? []).map(parseTensorRule).map(({ pattern, format }) => ({
    match: pattern,
    format: formatName(format),
  }));
  const files = given({ file: imatrix, save: saveImatrix });
  const steps = base.steps.map((step) => ('imatrix' in step ? { imatrix: { ...step.imatrix, ...files } } : step));
  return given({
    activations,
    kv: kv === 'none' ? null : kv && printKvScheme(kv),
    exclude: [...base.exclude, ...(options.exclude ?? [])],
    layers: [...base.layers, ...layers],
    seed,
    calibration: given({ text: calib, field: calibField, samples, sampling, window }),
    steps,
  });
}

/** Only what has a value: an absent option leaves the recipe as it is. */
const given = <T extends object>(values: T): Partial<T> =>
  Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as Partial<T>;
