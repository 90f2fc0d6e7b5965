// A recipe's static activations: the rule of each layer's range for the calibration, and the model with what it found.

import type { QuantSpec } from '../../formats/format.ts';
import { parseFormat } from '../../formats/registry.ts';
import { fixedRules } from '../../models/runtime-scheme.ts';
import type { ModelWeights } from '../../models/weights.ts';
import type { BlockReport } from '../calibration/calibrate.ts';
import { fixedActivations, type RangeOf } from '../calibration/static-inputs.ts';
import { activationEntries, isStatic } from '../recipe/activations.ts';
import type { Recipe } from '../recipe/recipe.ts';
import { withRuntime } from './transform-model.ts';

/** The rule of each layer's range; undefined where nothing is static. */
export function rangeRules({ activations }: Recipe): RangeOf | undefined {
  const entries = activationEntries(activations).map((entry) => ({ entry, pattern: new RegExp(entry.match) }));
  if (!entries.some(({ entry }) => isStatic(entry))) return undefined;
  return (layer) => {
    const entry = entries.findLast(({ pattern }) => pattern.test(layer))?.entry;
    if (!entry || !isStatic(entry)) return undefined;
    const { clip, percentile } = entry;
    return { format: parseFormat(entry.format) as QuantSpec, clip, percentile };
  };
}

/** The model with the scales of a calibration in its runtime scheme, in place of the rules that asked for them. */
export function withFixedInputs(
  weights: ModelWeights,
  { activations }: Recipe,
  reports: readonly BlockReport[],
): ModelWeights {
  const inputs = reports.flatMap((block) => block.inputs ?? []);
  if (inputs.length === 0) return weights;
  const { config } = weights;
  const asked = activationEntries(activations);
  // transformModel has made one rule of each entry; those of the layers come after the others and hold
  const dynamic = config.runtime.activations.filter((_, i) => !isStatic(asked[i]));
  const fixed = fixedRules(fixedActivations(config, inputs));
  return withRuntime(weights, { ...config.runtime, activations: [...dynamic, ...fixed] });
}
