// Recipes from files and presets, with every default filled in. settings/load.ts has the rules of `extends`.

import { loadSettings, parseSettings, type SettingsKind } from '../../settings/load.ts';
import { type GivenEntries, mergeEntries, readEntries } from './entries.ts';
import { type PresetName, presetNames } from './preset-names.ts';
import { presets } from './presets.ts';
import { completeRecipe, type Recipe } from './recipe.ts';

const recipeKind: SettingsKind<GivenEntries> = {
  subject: 'recipe',
  presetNames,
  preset: (name) => presets[name as PresetName].recipe,
  read: readEntries,
  merge: mergeEntries,
};

/**
 * The recipe of a YAML or JSON file, or of a preset (`subbyte:gptq`), with every default filled in.
 *
 * @throws user error with file, line and column for whatever is wrong in it
 * @example const recipe = await loadRecipe('w4-gptq.yaml');
 */
export async function loadRecipe(reference: string): Promise<Recipe> {
  return completeRecipe(await loadSettings(reference, recipeKind));
}

/** The recipe that a text holds; `file` gives messages a name and `extends` a folder. */
export async function parseRecipe(text: string, file = 'recipe.yaml'): Promise<Recipe> {
  return completeRecipe(await parseSettings(text, file, recipeKind));
}
