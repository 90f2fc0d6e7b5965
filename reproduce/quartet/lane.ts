// One training of the study, from its config to its line in runs.jsonl, on a backend of this thread.
//
// A lane makes one training at a time. Two share a GPU; on WebAssembly there is one for each thread (worker-lane.ts).

import type { Backend } from '../../src/backends/backend.ts';
import type { WebgpuBackend } from '../../src/backends/webgpu/backend.ts';
import { SubbyteError } from '../../src/errors.ts';
import { readLog } from '../../src/track/run-log.ts';
import { newModelConfig, newWeights } from '../../src/train/init.ts';
import { runTraining } from '../../src/train/loop.ts';
import type { Prepared } from '../../src/train/prepare.ts';
import type { FinishedRun } from './finished.ts';
import type { RunName, Settings } from './settings.ts';
import type { StudyText } from './texts.ts';

/** What a training adds to its name and key. */
export type Result = Omit<FinishedRun, 'key' | keyof RunName>;

export interface Training {
  readonly run: RunName;
  /** Takes checkpoints and the log, and may hold those of a training that was stopped. */
  readonly folder: string;
  /** Stops between two steps, after a checkpoint. */
  readonly signal: AbortSignal;
  onStep(step: number): void;
}

export interface Lane {
  /** Throws `interrupted` when the signal aborts. */
  train(training: Training): Promise<Result>;
  close(): Promise<void>;
}

/** Trains on the backend that `device` gives for the scheme; the caller closes it. Keeps nothing between trainings. */
export function localLane(settings: Settings, text: StudyText, device: (run: RunName) => Promise<Backend>): Lane {
  return {
    train: async (training) => trainOne(settings, text, await device(training.run), training),
    close: async () => {},
  };
}

const curvePoints = 40;

/** What a GPU's products may do on its tensor cores, where it has any. */
function tensorCoresIn(backend: Backend | WebgpuBackend): Pick<FinishedRun, 'tensorCores'> {
  return 'gpu' in backend && backend.gpu.tensorCores !== 'off' ? { tensorCores: backend.gpu.tensorCores } : {};
}

async function trainOne(
  settings: Settings,
  text: StudyText,
  backend: Backend,
  { run, folder, signal, onStep }: Training,
): Promise<Result> {
  const config = settings.configOf(run, folder);
  const tokens = run.steps * config.batch.sequences * config.batch.accumulate * config.batch.tokens;
  const where = { device: backend.description, ...tensorCoresIn(backend) };
  try {
    const trained = await runTraining(config, await prepareRun(settings, run, text), backend, {
      signal,
      onStep: ({ step }) => onStep(step),
    });
    const { seconds, memoryBytes, validation } = trained;
    if (!validation) throw new Error('study: no validation loss');
    const curve = binned(loggedLosses(trained.log), run.steps);
    return { loss: validation.nll, tokens, seconds, memoryBytes, ...where, curve };
  } catch (error) {
    if (error instanceof SubbyteError && error.details.code === 'training-diverged')
      return { loss: null, reason: error.details.problem, tokens, seconds: 0, memoryBytes: 0, ...where, curve: [] };
    throw error;
  }
}

/** First weights and texts of a training. */
export async function prepareRun(
  settings: Settings,
  run: RunName,
  { train, validation, vocabSize }: StudyText,
): Promise<Prepared> {
  const { model, batch, seeds } = settings.configOf(run, 'any');
  const weights = await newWeights(newModelConfig(model, { vocabSize, maxPositions: batch.tokens }), {
    std: model.initStd,
    residualScale: model.initResidualScale,
    seed: seeds.init,
  });
  // the study closes its texts itself, after the last training
  return { weights, files: new Map(), train, validation, close: async () => {} };
}

/** The training loss of each step, of all calls that made them. */
const loggedLosses = (log: string): ReadonlyMap<number, number> =>
  new Map(
    readLog(log).flatMap(({ kind, step, loss }) =>
      kind === 'step' && step !== undefined && typeof loss === 'number' ? [[step, loss] as const] : [],
    ),
  );

/** Means of stretches of steps of equal length. */
function binned(losses: ReadonlyMap<number, number>, steps: number): number[] {
  const points = Math.min(curvePoints, steps);
  return Array.from({ length: points }, (_, i) => {
    const [first, last] = [Math.floor((i * steps) / points) + 1, Math.floor(((i + 1) * steps) / points)];
    let sum = 0;
    for (let step = first; step <= last; step++) sum += losses.get(step) ?? Number.NaN;
    return sum / (last - first + 1);
  });
}
