// The part of a recipe that needs no data: rotations, and what the model's file will say about running it.
//
// The result computes what the source computes, up to the rounding of activations and keys that the recipe asks for;
// its tensors are mapped when they are loaded.

import { SubbyteError, userError } from '../../errors.ts';
import type { Format } from '../../formats/format.ts';
import { formatBytes, parseFormat } from '../../formats/registry.ts';
import type { DecoderConfig } from '../../models/config.ts';
import { checkKvScheme, parseKvScheme } from '../../models/kv-scheme.ts';
import { runtimeLayers } from '../../models/runtime-layers.ts';
import { type ActivationRule, printRuntime, type RuntimeScheme } from '../../models/runtime-scheme.ts';
import type { ModelWeights } from '../../models/weights.ts';
import { activationEntries } from '../recipe/activations.ts';
import { findStep, type Recipe } from '../recipe/recipe.ts';
import { type StepOptions, stepName, stepRule } from '../recipe/steps.ts';
import type { RotationOptions } from '../rotate/options.ts';
import { rotateModel } from '../rotate/rotate-model.ts';

export interface TransformedModel {
  readonly weights: ModelWeights;
  /** What a user should know: blocks that had to be smaller. */
  readonly notes: readonly string[];
}

/**
 * The model as it will run, before anything is rounded.
 *
 * Throws a user error for rotations that do not fit the model, rules that match no layer, formats that activations
 * cannot have, KV schemes that do not suit its heads, and static ranges of the source that a step makes wrong.
 */
export async function transformModel(source: ModelWeights, recipe: Recipe): Promise<TransformedModel> {
  const notes: string[] = [];
  refuseStaleRanges(source, recipe);
  const rotation = findStep(recipe, 'rotate');
  const rotated = rotation
    ? await rotateModel(source, rotationOptions(source.config, rotation, recipe, notes))
    : source;
  const { runtime } = rotated.config;
  const activations = activationRules(rotated.config, recipe);
  const kv = recipe.kv === undefined ? runtime.kv : parseKvScheme(recipe.kv);
  if (kv) checkKvScheme(kv, rotated.config);
  if (activations.length === 0 && kv === runtime.kv) return { weights: rotated, notes };
  const scheme: RuntimeScheme = {
    ...runtime,
    ...(kv && { kv }),
    activations: activations.length > 0 ? activations : runtime.activations,
  };
  return { weights: withRuntime(rotated, scheme), notes };
}

/** Static ranges that a model came with are those of its inputs as they were. */
function refuseStaleRanges({ config, location }: ModelWeights, recipe: Recipe): void {
  const step = recipe.steps.map(stepName).find((name) => stepRule(name).phase === 'transform');
  if (!step || recipe.activations !== undefined || config.runtime.activations.every(({ fixed }) => !fixed)) return;
  throw userError({
    code: 'stale-ranges',
    op: 'activations',
    problem: `${step} changes the inputs of layers, whose static ranges the model brings along`,
    file: location,
    fix: 'set activations, as in --activations int8-tensor:static, or start from the original model',
  });
}

/** The same weights under another runtime scheme. */
export function withRuntime(weights: ModelWeights, runtime: RuntimeScheme): ModelWeights {
  const { subbyte: _, ...rest } = weights.hfConfig;
  const printed = printRuntime(runtime);
  return {
    ...weights,
    config: { ...weights.config, runtime },
    hfConfig: { ...rest, ...(printed && { subbyte: printed }) },
  };
}

function rotationOptions(
  config: DecoderConfig,
  options: StepOptions['rotate'],
  { seed }: Recipe,
  notes: string[],
): RotationOptions {
  const { block, ...rest } = options;
  if (block === 0) return { ...rest, seed };
  const fitting = fittingBlock(config, block);
  if (fitting < block)
    notes.push(`rotations are in blocks of ${fitting}: ${block} does not divide the input of every layer`);
  return { ...rest, block: fitting, seed };
}

/** The largest power of two, at most `block`, that divides the input of every linear layer. */
function fittingBlock(config: DecoderConfig, block: number): number {
  let size = block;
  for (const { width } of runtimeLayers(config)) while (width % size !== 0) size /= 2;
  return size;
}

/** Rules for the layers' inputs, one for each of the recipe; scales of static ones come from calibration. */
function activationRules(config: DecoderConfig, { activations }: Recipe): ActivationRule[] {
  const layers = runtimeLayers(config);
  return activationEntries(activations).map(({ match, format: name }) => {
    const format = parseFormat(name);
    const pattern = new RegExp(match);
    const matched = layers.filter((layer) => pattern.test(layer.name));
    if (matched.length === 0)
      throw userError({
        code: 'rule-matches-nothing',
        op: 'activations',
        problem: `${JSON.stringify(match)} matches no linear layer of this model`,
        fix: `use part of a name such as ${JSON.stringify(layers[0]?.name)}`,
      });
    for (const layer of matched) checkWidth(format, layer.width, layer.name);
    return { match, format };
  });
}

/** Activations are rounded row by row while the model runs, so their format must suit every input. */
function checkWidth(format: Format, width: number, layer: string): void {
  try {
    formatBytes(format, 1, width);
  } catch (error) {
    if (!(error instanceof SubbyteError)) throw error;
    throw new SubbyteError(error.kind, { ...error.details, op: 'activations', tensor: layer }, { cause: error });
  }
}
