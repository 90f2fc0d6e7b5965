// A recipe: everything that decides how a model is quantized, as plain JSON data with every default filled in.
//
// A recipe comes from files (load.ts), from a method's name (method.ts) or from a program, and changes by merging: maps
// merge, lists and values are replaced, null takes back. Two recipes that print alike do alike.
// It does not know how any of it is carried out.

import { createHash } from 'node:crypto';
import { fillDefaults } from '../../settings/fields.ts';
import { withoutFile } from '../../settings/place.ts';
import { type Activations, activationEntries, isStatic } from './activations.ts';
import {
  type CalibrationOptions,
  calibrationFields,
  entries,
  type GivenEntries,
  mergeEntries,
  type RecipeOverrides,
  readEntries,
} from './entries.ts';
import type { FormatRule } from './format-rules.ts';
import { type Step, type StepName, type StepOptions, stepName, stepRule } from './steps.ts';

export interface Recipe {
  /** Of the decoder's linear layers; a format's canonical name, or one of llama.cpp's mixtures. */
  readonly format?: string;
  /** Of the linear layers' inputs; absent: f32. */
  readonly activations?: Activations;
  /** Formats of the KV cache, as written. */
  readonly kv?: string;
  /** Globs of tensors that stay as they are stored. */
  readonly exclude: readonly string[];
  /** Exceptions; the last that matches holds. */
  readonly layers: readonly FormatRule[];
  /** Below 2^32. */
  readonly seed: number;
  readonly calibration: CalibrationOptions;
  /** In the order in which they run; exactly one of gptq, hqq and rtn. */
  readonly steps: readonly Step[];
}

/** Every default filled in. */
export function completeRecipe(given: GivenEntries): Recipe {
  const calibration = fillDefaults(calibrationFields, (given.calibration ?? {}) as Record<string, unknown>);
  return fillDefaults(entries, { ...given, calibration }) as unknown as Recipe;
}

/**
 * A recipe with changes: maps merge, lists (steps too) and values are replaced, null takes a value back.
 *
 * @throws user error that names the entry which is wrong
 * @example mergeRecipe(recipe, { format: 'int4-g64-asym', calibration: { samples: 32 } })
 */
export function mergeRecipe(base: Recipe, overrides: RecipeOverrides): Recipe {
  return completeRecipe(mergeEntries(base as GivenEntries, readEntries(overrides, withoutFile('recipe'))));
}

/** A recipe from what a program says; everything else has its default. */
export function createRecipe(given: RecipeOverrides = {}): Recipe {
  return completeRecipe(readEntries(given, withoutFile('recipe')));
}

/** The options of a step, or undefined when the recipe does not have it. */
export function findStep<N extends StepName>(recipe: Recipe, name: N): StepOptions[N] | undefined {
  const step = recipe.steps.find((one) => stepName(one) === name);
  return step && (step as Record<N, StepOptions[N]>)[name];
}

/** Whether the recipe measures the model on calibration text. */
export function needsText(recipe: Recipe): boolean {
  if (activationEntries(recipe.activations).some(isStatic)) return true;
  return recipe.steps.some(
    (step) => stepRule(stepName(step)).calibrated && !('imatrix' in step && step.imatrix.file !== undefined),
  );
}

/** SHA-256, in hex, of everything that a recipe says; the order of keys does not count. */
export function recipeDigest(recipe: Recipe): string {
  return createHash('sha256')
    .update(JSON.stringify(sorted(recipe)))
    .digest('hex');
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== 'object' || value === null) return value;
  const keys = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return Object.fromEntries(keys.map(([key, inner]) => [key, sorted(inner)]));
}
