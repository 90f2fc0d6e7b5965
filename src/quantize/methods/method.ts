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
import type { CalibrationMethod } from '../calibration/calibrate.ts';
import type { SiteRecord } from '../calibration/site-observer.ts';
import { findStep, needsText, type Recipe } from '../recipe/recipe.ts';
import { clippingFirst } from './clipping.ts';
import { type ScalingStep, scalingPreparation } from './preparation.ts';
import {
  gptqRounding,
  hqqRounding,
  importanceRounding,
  plainRounding,
  type Rounding,
  type RoundingTools,
} from './rounding.ts';

export interface MethodRequest {
  readonly recipe: Recipe;
  readonly config: DecoderConfig;
  readonly formats: ReadonlyMap<string, Format>;
  readonly solver: Solver;
  readonly tools: RoundingTools;
  /** Told the statistics of every layer when the recipe measures importance. */
  onImportance?(name: string, record: SiteRecord): void;
}

/** Whether a recipe does more than round every tensor on its own, so that blocks have to be worked through. */
export const needsCalibration = (recipe: Recipe): boolean => needsText(recipe) || findStep(recipe, 'hqq') !== undefined;

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

function roundingOf({ recipe, solver, tools, onImportance }: MethodRequest): Rounding {
  const gptq = findStep(recipe, 'gptq');
  if (gptq) return gptqRounding(gptq, solver, tools);
  const hqq = findStep(recipe, 'hqq');
  if (hqq) return hqqRounding({ iterations: hqq.iterations, p: hqq.norm }, tools);
  const imatrix = findStep(recipe, 'imatrix');
  if (imatrix && imatrix.file === undefined) return importanceRounding(tools, onImportance);
  return plainRounding(tools);
}
