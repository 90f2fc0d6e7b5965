// Recipes as files.

import { stringify } from 'yaml';
import type { Recipe } from './recipe.ts';

/** A recipe with every default written out; loading it gives the same recipe. */
export function printRecipe(recipe: Recipe, syntax: 'yaml' | 'json'): string {
  if (syntax === 'json') return `${JSON.stringify(recipe, undefined, 2)}\n`;
  return stringify(recipe, { lineWidth: 0, aliasDuplicateObjects: false });
}
