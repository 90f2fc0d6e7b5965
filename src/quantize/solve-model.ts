// From a model and calibration windows to the same model with its layers rounded by a method.
//
// The results lie in a work folder until `remove`; the model that is returned reads them from there, one tensor at a
// time, so that writers can stream it.

import type { Backend } from '../backends/backend.ts';
import type { Format } from '../formats/format.ts';
import { denseF32 } from '../models/stack.ts';
import type { ModelWeights } from '../models/weights.ts';
import { type ActivationBudget, activationBudget } from './calibration/activations.ts';
import { type BlockReport, type CalibrationMethod, calibrate, statisticsName } from './calibration/calibrate.ts';
import { chunkWindows } from './calibration/chunks.ts';
import type { Profile } from './calibration/profile.ts';
import type { RangeOf } from './calibration/static-inputs.ts';
import { openWorkFolder } from './calibration/work-folder.ts';
import { withTensors } from './solved-model.ts';

export interface SolveRequest {
  /** Transformed and with its runtime scheme: what the layers see is what the result will run as. */
  readonly weights: ModelWeights;
  readonly formats: ReadonlyMap<string, Format>;
  readonly method: CalibrationMethod;
  readonly rangeOf?: RangeOf;
  /** Token ids [samples · window] */
  readonly ids: Int32Array;
  readonly window: number;
  readonly backend: Backend;
  /** Where results and spilled activations go. */
  readonly folder: string;
  /** Changes with everything that decides the result. */
  readonly fingerprint: string;
  /** Bytes that activations may take in memory. */
  readonly memory: number;
  readonly profile: Profile;
  readonly splitProfile: boolean;
  readonly signal?: AbortSignal;
  onProgress?(tokens: number, place: string): void;
}

export interface SolvedModel {
  readonly weights: ModelWeights;
  readonly reports: readonly BlockReport[];
  /** Blocks that an earlier run had finished. */
  readonly resumed: number;
  readonly budget: ActivationBudget;
  /** Mean squares of a weight's inputs, where the method keeps them. */
  meanSquares(name: string): Promise<Float32Array | undefined>;
  /** Deletes the results: `weights` cannot be read afterwards. */
  remove(): Promise<void>;
  close(): Promise<void>;
}

/** Calibrates and rounds; continues an earlier run with the same fingerprint. */
export async function solveModel(request: SolveRequest): Promise<SolvedModel> {
  const { weights, formats, ids, window } = request;
  const work = await openWorkFolder(request.folder, request.fingerprint);
  const resumed = work.finished;
  const samples = ids.length / window;
  const batch = chunkWindows(samples, window);
  const budget = activationBudget(request.memory);
  const reports = await calibrate({
    weights,
    formats,
    method: request.method,
    rangeOf: request.rangeOf,
    ids,
    work,
    signal: request.signal,
    onProgress: request.onProgress,
    context: {
      config: weights.config,
      backend: request.backend,
      batch,
      tokens: window,
      chunks: samples / batch,
      budget,
      folder: request.folder,
      profile: request.profile,
      splitProfile: request.splitProfile,
    },
  });
  const index = await work.index();
  const load = (name: string) => work.load(index.get(name) as number, name);
  return {
    weights: withTensors(weights, new Set(index.keys()), formats, load),
    reports,
    resumed,
    budget,
    async meanSquares(name) {
      const layer = index.get(statisticsName(name));
      return layer === undefined ? undefined : denseF32(await work.load(layer, statisticsName(name)));
    },
    remove: () => work.remove(),
    close: () => work.close(),
  };
}
