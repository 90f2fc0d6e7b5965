// Carries a recipe's steps out on a model: what the command line, benchmarks and programs call.
//
// The model comes transformed (transform-model.ts) and with the formats of its tensors chosen; what comes back is the
// same model with these tensors rounded. Recipes that need text work through the blocks and keep their results on disk
// until `remove`; the others round tensors when they are read.

import type { Backend } from '../../backends/backend.ts';
import type { Solver } from '../../backends/wasm/solver.ts';
import type { Format } from '../../formats/format.ts';
import type { ModelWeights } from '../../models/weights.ts';
import type { BlockReport } from '../calibration/calibrate.ts';
import { type CalibrationPlan, planCalibration } from '../calibration/plan-calibration.ts';
import { openProfile, type Profile } from '../calibration/profile.ts';
import { needsText, type Recipe } from '../recipe/recipe.ts';
import { solveModel } from '../solve-model.ts';
import { tensorStreams } from '../streams.ts';
import type { TensorQuantizer } from '../tensor-quantizer.ts';
import type { Importance } from './importance.ts';
import { calibrationMethod, roundedOnReading } from './method.ts';
import { rangeRules, withFixedInputs } from './static-activations.ts';

export interface RecipeRun {
  readonly recipe: Recipe;
  readonly weights: ModelWeights;
  /** Formats of the tensors to round, as the file will hold them. */
  readonly formats: ReadonlyMap<string, Format>;
  readonly quantizer: TensorQuantizer;
  readonly solver: Solver;
  /** For recipes that need text: token ids, one window after the other, and where the work lies meanwhile. */
  readonly calibration?: {
    readonly ids: Int32Array;
    readonly window: number;
    readonly backend: Backend;
    readonly folder: string;
    /** Changes with everything that decides the result: an earlier run with the same one is continued. */
    readonly fingerprint: string;
    /** Bytes that activations may take in memory. */
    readonly memory: number;
  };
  /** Of a file that the recipe names. */
  readonly importance?: Importance;
  /** Tells the time of forward passes from that of statistics. */
  readonly splitProfile?: boolean;
  readonly signal?: AbortSignal;
  /** What the calibration will take, before it starts. */
  onPlan?(plan: CalibrationPlan): void;
  /** Tokens that one more stage has seen, and where the work is. */
  onProgress?(tokens: number, place: string): void;
}

export interface AppliedRecipe {
  readonly weights: ModelWeights;
  readonly reports: readonly BlockReport[];
  readonly profile: Profile;
  readonly plan?: CalibrationPlan;
  /** Blocks that an earlier run had finished. */
  readonly resumed: number;
  /** Mean squares of a weight's inputs, where the method measures importance. */
  meanSquares(name: string): Promise<Float32Array | undefined>;
  /** Deletes what lies on disk: `weights` cannot be read afterwards. */
  remove(): Promise<void>;
}

/**
 * The rounded model; undefined where rounding to nearest, which writers do themselves, is all that the recipe asks for.
 *
 * Throws what reading, calibrating and rounding throw; finished blocks stay for the next run.
 */
export async function applyRecipe(run: RecipeRun): Promise<AppliedRecipe | undefined> {
  const { recipe, weights, formats, quantizer, solver, calibration, importance } = run;
  const profile = openProfile();
  const streams = tensorStreams(weights);
  const tokens = calibration?.ids.length ?? 0;
  const tools = { quantizer, profile, seed: recipe.seed, streams, tokens, importance };
  if (!needsText(recipe)) {
    const rounded = roundedOnReading(recipe, weights, formats, tools);
    const none = async () => undefined;
    return rounded && { weights: rounded, reports: [], profile, resumed: 0, meanSquares: none, remove: none };
  }
  if (!calibration) throw new Error('applyRecipe: the recipe needs calibration text');
  const { ids, window, backend, memory } = calibration;
  const method = calibrationMethod({ recipe, config: weights.config, formats, solver, tools });
  const rangeOf = rangeRules(recipe);
  const plan = await planCalibration({
    weights,
    formats,
    method,
    rangeOf,
    samples: ids.length / window,
    window,
    backend,
    memory,
  });
  run.onPlan?.(plan);
  const solved = await solveModel({
    ...calibration,
    weights,
    formats,
    method,
    rangeOf,
    profile,
    splitProfile: run.splitProfile ?? false,
    signal: run.signal,
    onProgress: run.onProgress,
  });
  return { ...solved, weights: withFixedInputs(solved.weights, recipe, solved.reports), profile, plan };
}
