// Which recipe trains which layer when: the config's recipe, its exceptions by layer, its phases.

import { userError } from '../../errors.ts';
import type { DecoderConfig } from '../../models/config.ts';
import { linearWeights } from '../../models/tensors.ts';
import type { BatchOptions, RecipeOptions } from '../config/sections.ts';
import type { LayerProducts } from '../trainer.ts';
import type { LinearRecipe } from './linear-recipe.ts';
import { longestBlock, recipeProducts } from './products.ts';
import { type RecipeName, recipes } from './registry.ts';

export interface Phases {
  /** Number of the phase that a step, from 1, belongs to. */
  at(step: number): number;
  /** The linear layers' products in a phase; undefined where all are plain. */
  products(phase: number): LayerProducts | undefined;
}

interface Run {
  readonly recipe: RecipeOptions;
  readonly batch: BatchOptions;
  readonly steps: number;
  readonly seed: number;
}

/** Throws a user error for a model whose layers of experts the recipes do not cover. */
export function openPhases(config: DecoderConfig, { recipe, batch, steps, seed }: Run): Phases {
  const uses = [recipe.use, ...recipe.phases.map(({ use }) => use)];
  const all = [...uses, ...recipe.layers.map(({ use }) => use)];
  if (config.experts && all.some((use) => use !== 'f32'))
    throw userError({
      code: 'recipe-experts',
      op: 'train',
      problem: 'recipes cover no layers of experts',
      got: all.find((use) => use !== 'f32'),
      expected: 'f32',
      fix: 'leave out recipe, or train a model without experts',
    });
  const starts = [1, ...recipe.phases.map(({ from }) => Math.floor(from * steps) + 1)];
  const layers = linearWeights(config).map((name) => name.replace(/\.weight$/, ''));
  const rules = recipe.layers.map(({ match, use }) => ({ pattern: new RegExp(match), use }));
  const sizes = [config.hiddenSize, config.mlpSize, config.heads * config.headDim, config.kvHeads * config.headDim];
  const longest = longestBlock(
    all.map((use) => recipes[use]),
    [...sizes, batch.sequences * batch.tokens],
  );
  return {
    at: (step) => starts.findLastIndex((start) => start <= step),
    products(phase) {
      const nameOf = (layer: string): RecipeName =>
        rules.findLast(({ pattern }) => pattern.test(layer))?.use ?? uses[phase];
      if (layers.every((layer) => nameOf(layer) === 'f32')) return undefined;
      const recipeOf = (layer: string): LinearRecipe | undefined => {
        const name = nameOf(layer);
        return name === 'f32' ? undefined : recipes[name];
      };
      return recipeProducts(layers, recipeOf, { seed, longest });
    },
  };
}
