// A recipe's steps as a calibration method, or, where they need no data, as a model that rounds itself when it is read.
//
//   transform  rotate                 transform-model.ts, before anything else
//   transform  smooth, awq            a first pass over every block: preparation.ts
//   clip       clip                   narrows a layer's weights on its second moments, just before they are rounded
//   solve      gptq, hqq              rounding.ts, ../hqq.ts
//   round      imatrix, rtn           rounding.ts

import type { Solver } from '../../backends/wasm/solver.ts';
import type { Format } from '../../formats/format.ts';
import type { DecoderConfig } from '../../models/config.ts';
import type { ModelWeights } from '../../models/weights.ts';
import type { CalibrationMethod } from '../calibration/calibrate.ts';
import { findStep, type Recipe } from '../recipe/recipe.ts';
import { withTensors } from '../solved-model.ts';
import { clippingFirst } from './clipping.ts';
import { type ScalingStep, scalingPreparation } from './preparation.ts';
import {
  fitZeroPoints,
  gptqRounding,
  hqqRounding,
  importanceRounding,
  plainRounding,
  type Rounding,
  type RoundingTools,
  roundWeighted,
} from './rounding.ts';

export interface MethodRequest {
  readonly recipe: Recipe;
  readonly config: DecoderConfig;
  readonly formats: ReadonlyMap<string, Format>;
  readonly solver: Solver;
  readonly tools: RoundingTools;
}

/**
 * The model with its tensors rounded as they are read, for recipes that need no text; undefined where rounding to
 * nearest without weights is all there is.
 */
export function roundedOnReading(
  recipe: Recipe,
  weights: ModelWeights,
  formats: ReadonlyMap<string, Format>,
  tools: RoundingTools,
): ModelWeights | undefined {
  const hqq = findStep(recipe, 'hqq');
  if (!hqq && !tools.importance) return undefined;
  const options = { iterations: hqq?.iterations ?? 0, p: hqq?.norm ?? 1 };
  const linear = (name: string) => weights.role(name) === 'linear';
  return withTensors(weights, new Set(formats.keys()), formats, async (name) => {
    const task = { name, weight: await weights.load(name), format: formats.get(name) as Format, record: unseen };
    const { tensor } = await (hqq && linear(name) ? fitZeroPoints(task, options, tools) : roundWeighted(task, tools));
    return tensor;
  });
}

const unseen = { tokens: 0, features: 0 };

/** The method that carries out a recipe's steps. */
export function calibrationMethod(request: MethodRequest): CalibrationMethod {
  const { recipe, config, formats, tools } = request;
  const steps: ScalingStep[] = [];
  const smooth = findStep(recipe, 'smooth');
  if (smooth) steps.push({ kind: 'smooth', ...smooth });
  const awq = findStep(recipe, 'awq');
  if (awq) steps.push({ kind: 'awq', ...awq });
  const { quantizer, seed } = tools;
  const preparation = steps.length > 0 ? scalingPreparation({ config, formats, steps, quantizer, seed }) : undefined;
  const clip = findStep(recipe, 'clip');
  const rounding = roundingOf(request);
  return { ...(clip ? clippingFirst(rounding, clip, request.solver, tools) : rounding), preparation };
}

function roundingOf({ recipe, solver, tools }: MethodRequest): Rounding {
  const imatrix = findStep(recipe, 'imatrix');
  const gptq = findStep(recipe, 'gptq');
  if (gptq) return gptqRounding({ gptq, weighted: imatrix !== undefined }, solver, tools);
  const hqq = findStep(recipe, 'hqq');
  if (hqq) return hqqRounding({ iterations: hqq.iterations, p: hqq.norm }, tools);
  if (imatrix && imatrix.file === undefined) return importanceRounding(tools);
  return plainRounding(tools);
}
