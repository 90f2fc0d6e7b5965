// Which recipe trains which layer when: the config's recipe, its exceptions by layer, its phases.
//
// Phase 0 is the recipe itself, phase i the i-th of the list. A phase begins behind its share of the steps, or, where it
// asks for it, once gradients are no longer far above the noise of their rounding (noise.ts) while the phase before it
// holds. Only the latter has to be remembered: by the run, and by its checkpoints.

import type { DecoderConfig } from '../../models/config.ts';
import { expertStacks } from '../../models/loaded.ts';
import { expectedTensors, linearWeights } from '../../models/tensors.ts';
import type { BatchOptions, RecipeOptions } from '../config/sections.ts';
import type { LinearRecipe } from './linear-recipe.ts';
import { longestBlock, type RecipeProducts, recipeProducts } from './products.ts';
import { type RecipeName, recipes } from './registry.ts';
import { checkSizes } from './sizes.ts';

/** What a run remembers of its phases. */
export interface PhaseRecord {
  /** Ratios of gradient to rounding noise since the phase began, oldest first, at most three. */
  readonly ratios: readonly number[];
  /** First steps of the phases that began because of such ratios. */
  readonly begun: readonly { readonly phase: number; readonly step: number }[];
}

export const noPhases: PhaseRecord = { ratios: [], begun: [] };

/** Ratios whose mean decides. */
const averaged = 3;

export interface Phases {
  /** Number of the phase that a step, from 1, belongs to. */
  at(step: number, record: PhaseRecord): number;
  /** Steps before the one from which the learning rate's schedule counts. */
  scheduleStart(step: number, record: PhaseRecord): number;
  /** The record after a ratio was measured at the end of a step; the next phase may begin with the step after it. */
  measured(step: number, ratio: number, record: PhaseRecord): PhaseRecord;
  /** The linear layers' products in a phase; undefined where all are plain. */
  products(phase: number): RecipeProducts | undefined;
}

interface Run {
  readonly recipe: RecipeOptions;
  readonly batch: BatchOptions;
  readonly steps: number;
  readonly seed: number;
}

/** The layers that recipes train by their names, of experts the stacks, in the order of the model. */
export function trainedLayers(config: DecoderConfig): string[] {
  const stackOf = new Map(
    [...expertStacks(config)].flatMap(({ stack, members }) => members.map((name) => [name, stack])),
  );
  return [...new Set(linearWeights(config).map((name) => stackOf.get(name) ?? name.replace(/\.weight$/, '')))];
}

/** The shape of a layer's weight by its name: of a stack, that of one expert. */
function layerShapes(config: DecoderConfig): (layer: string) => { shape: readonly number[]; routed: boolean } {
  const tensors = expectedTensors(config);
  const stacks = new Map([...expertStacks(config)].map(({ stack, members }) => [stack, members[0]]));
  return (layer) => {
    const shape = tensors.get(stacks.get(layer) ?? `${layer}.weight`)?.shape;
    if (!shape) throw new Error(`recipes: ${layer} is no layer of the model`);
    return { shape, routed: stacks.has(layer) };
  };
}

/** Throws a user error for a recipe whose blocks do not fit a layer that it trains. */
export function openPhases(config: DecoderConfig, { recipe, batch, steps, seed }: Run): Phases {
  const uses = [recipe.use, ...recipe.phases.map(({ use }) => use)];
  const all = [...uses, ...recipe.layers.map(({ use }) => use)];
  const planned = [
    1,
    ...recipe.phases.map(({ from }) => (from === undefined ? undefined : Math.floor(from * steps) + 1)),
  ];
  const startOf = (phase: number, { begun }: PhaseRecord) =>
    Math.min(...[planned[phase], begun.find((b) => b.phase === phase)?.step].map((s) => s ?? Number.POSITIVE_INFINITY));
  const layers = trainedLayers(config);
  const rules = recipe.layers.map(({ match, use }) => ({ pattern: new RegExp(match), use }));
  const sizes = [config.hiddenSize, config.mlpSize, config.heads * config.headDim, config.kvHeads * config.headDim];
  const longest = longestBlock(
    all.map((use) => recipes[use]),
    [...sizes, batch.sequences * batch.tokens],
  );
  const nameAt = (layer: string, phase: number): RecipeName =>
    rules.findLast(({ pattern }) => pattern.test(layer))?.use ?? uses[phase];
  const shapes = layerShapes(config);
  for (const phase of uses.keys())
    for (const layer of layers) {
      const { shape, routed } = shapes(layer);
      const sizes = { outer: shape[0], inner: shape[1], rows: routed ? undefined : batch.sequences * batch.tokens };
      checkSizes(nameAt(layer, phase), recipes[nameAt(layer, phase)], layer, sizes);
    }
  const at: Phases['at'] = (step, record) => uses.findLastIndex((_, phase) => startOf(phase, record) <= step);
  return {
    at,
    scheduleStart(step, record) {
      const begun = (phase: number) => startOf(phase, record) <= step;
      const restarted = recipe.phases.findLastIndex(({ restart }, i) => restart && begun(i + 1)) + 1;
      return restarted > 0 ? startOf(restarted, record) - 1 : 0;
    },
    measured(step, ratio, record) {
      const ratios = [...record.ratios, ratio].slice(-averaged);
      const phase = at(step, record);
      const below = recipe.phases[phase]?.noiseBelow;
      const mean = ratios.reduce((sum, r) => sum + r, 0) / averaged;
      if (below === undefined || ratios.length < averaged || mean >= below) return { ...record, ratios };
      return { ratios: [], begun: [...record.begun, { phase: phase + 1, step: step + 1 }] };
    },
    products(phase) {
      const nameOf = (layer: string) => nameAt(layer, phase);
      if (layers.every((layer) => nameOf(layer) === 'f32')) return undefined;
      const recipeOf = (layer: string): LinearRecipe | undefined => {
        const name = nameOf(layer);
        return name === 'f32' ? undefined : recipes[name];
      };
      return recipeProducts(layers, recipeOf, { seed, longest });
    },
  };
}
