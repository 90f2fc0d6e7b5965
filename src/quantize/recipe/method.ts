// `--method awq+gptq`: a recipe from the names of methods.
//
// A word is a preset, of which the steps count and not the formats, or a step with its defaults. Words may come in any
// order; steps take the order in which they run. AWQ's clipping belongs to its rounding: where gptq or hqq rounds,
// `awq` is the scaling alone, unless `clip` is named too.

import { userError } from '../../errors.ts';
import { nearest } from '../../formats/edit-distance.ts';
import { inside, type Place, withoutFile } from '../../settings/place.ts';
import { readEntries } from './entries.ts';
import { type PresetName, presetNames } from './preset-names.ts';
import { presets } from './presets.ts';
import { createRecipe, type Recipe } from './recipe.ts';
import { fullStep } from './step-list.ts';
import { type Step, stepName, stepNames } from './steps.ts';

const top: Place = withoutFile('recipe');
const words: readonly string[] = [...new Set([...presetNames, ...stepNames])].filter((word) => !word.includes('+'));

/**
 * The recipe of methods joined by `+`, without formats.
 *
 * @throws user error with the nearest name for a word that names no method, and for methods that exclude each other
 * @example recipeFromMethod('gptq+awq').steps // [{ awq: {…} }, { gptq: {…} }]
 */
export function recipeFromMethod(text: string): Recipe {
  const named = text.split('+').map((word) => word.trim().toLowerCase());
  const steps = new Map<string, Step>();
  for (const word of named)
    for (const step of stepsOf(word)) {
      const known = steps.get(stepName(step));
      if (known && JSON.stringify(known) !== JSON.stringify(step)) throw conflict(stepName(step), text);
      steps.set(stepName(step), step);
    }
  if ((steps.has('gptq') || steps.has('hqq')) && !named.includes('clip')) steps.delete('clip');
  const rounding = [...steps.keys()].filter((name) => name === 'gptq' || name === 'hqq');
  // presets that round to nearest say so; a solver among the other words takes their place
  if (rounding.length > 0 && !named.includes('rtn')) steps.delete('rtn');
  return createRecipe({ steps: stepNames.flatMap((name) => steps.get(name) ?? []) });
}

function stepsOf(word: string): readonly Step[] {
  if (presetNames.some((name) => name === word))
    return readEntries(presets[word as PresetName].recipe, top).steps as readonly Step[];
  const step = stepNames.find((name) => name === word);
  if (step) return [fullStep(step, {}, inside(top, 'method'))];
  const isRule = word === 'mse' || word === 'mae';
  const close = nearest(word, words);
  throw userError({
    code: 'unknown-method',
    op: 'method',
    problem: isRule ? `${word} is a rule for scales and part of the format` : 'there is no such method',
    got: isRule ? undefined : JSON.stringify(word.slice(0, 64)),
    expected: isRule ? undefined : `one of ${words.join(', ')}, joined by +`,
    fix: isRule ? `add it to the format's name: int4-g128-${word}` : close && `did you mean "${close}"?`,
  });
}

const conflict = (step: string, text: string) =>
  userError({
    code: 'method-conflict',
    op: 'method',
    problem: `two of the methods want different options of ${step}`,
    got: JSON.stringify(text.slice(0, 64)),
    fix: 'name one of them, or write a recipe file',
  });
