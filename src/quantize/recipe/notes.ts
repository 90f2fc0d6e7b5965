// What is worth saying about a recipe before it runs: combinations that work and hardly ever do what was meant.

import { activationEntries } from './activations.ts';
import { findStep, type Recipe } from './recipe.ts';

/** One sentence each; empty for most recipes. */
export function recipeNotes(recipe: Recipe): string[] {
  const rotate = findStep(recipe, 'rotate');
  const gptq = findStep(recipe, 'gptq');
  const plain = activationEntries(recipe.activations).length === 0;
  const online = rotate && (rotate.down === 'online' || rotate.out === 'online' || rotate.block > 0);
  const notes = [
    plain && findStep(recipe, 'smooth')
      ? 'smooth makes activations easier to round and weights harder, but activations are not rounded: set activations'
      : '',
    plain && online
      ? 'online rotations cost time whenever the model runs and serve rounded activations: set activations, or rotate with down: none, out: none'
      : '',
    rotate?.queryKey && recipe.kv === undefined ? 'queryKey serves a rounded KV cache only: set kv' : '',
    rotate && findStep(recipe, 'rtn') && recipe.format?.startsWith('nvfp4')
      ? "nvfp4's groups of 16 hold outliers by themselves: with rounding to nearest, rotations make it worse"
      : '',
    gptq && gptq.asymmetry > 0.5 && recipe.format?.startsWith('int2')
      ? 'at 2 bits an asymmetry of 0.25 to 0.5 is better than more'
      : '',
  ];
  return notes.filter((note) => note !== '');
}
