// The trainings of the component study: every scheme from the same first weights, on the same batches, for each seed.
//
// Finished trainings are lines of runs.jsonl; one that was stopped goes on from its checkpoint in runs/, so a study can be
// spread over calls with a time limit each. A training whose loss stops being finite is a result too.

import { rm } from 'node:fs/promises';
import path from 'node:path';
import type { Backend } from '../../src/backends/backend.ts';
import { SubbyteError } from '../../src/errors.ts';
import { makeFolder } from '../../src/io/make-folder.ts';
import { linearWeights } from '../../src/models/tensors.ts';
import { elementCount } from '../../src/tensor/shape.ts';
import { readLog } from '../../src/track/run-log.ts';
import { newModelConfig, newWeights } from '../../src/train/init.ts';
import { runTraining } from '../../src/train/loop.ts';
import type { Prepared } from '../../src/train/prepare.ts';
import { appendFinished, type FinishedRun, readFinished, runKey } from './finished.ts';
import type { RunName, Settings } from './settings.ts';
import type { StudyText } from './texts.ts';

export interface StudyContext {
  readonly settings: Settings;
  readonly text: StudyText;
  readonly folder: string;
  /** Opened when the first training needs it; the caller closes it. */
  device(): Promise<Backend>;
  readonly signal?: AbortSignal;
  /** Since the start of the process. */
  readonly minutes?: number;
  onProgress(fraction: number, what: string): void;
}

export interface Study {
  /** The finished trainings of these settings. */
  readonly finished: readonly FinishedRun[];
  readonly left: number;
  /** Weights of the linear layers, N of the laws. */
  readonly parameters: number;
  readonly tokensPerStep: number;
}

const curvePoints = 40;

/** Trains what is not finished yet, until all is or the time is up. Throws `interrupted` when the signal aborts. */
export async function runStudy(context: StudyContext): Promise<Study> {
  const { settings, text, folder, signal, minutes, onProgress } = context;
  const file = path.join(folder, 'runs.jsonl');
  await makeFolder(folder);
  const keys = new Map(settings.runs.map((run) => [runKey(settings, run, text.digest), run]));
  const known = new Map((await readFinished(file)).map((run) => [run.key, run]));
  const finished = new Map([...known].filter(([key]) => keys.has(key)));
  const clock = timeLimit(minutes, signal);
  const total = settings.runs.reduce((sum, run) => sum + run.steps, 0);
  let done = [...finished.values()].reduce((sum, run) => sum + run.steps, 0);
  try {
    for (const [key, run] of keys) {
      if (finished.has(key)) continue;
      if (clock.isUp()) break;
      const label = `${run.scheme}-${run.seed}-${key}`;
      const what = `${run.scheme}, seed ${run.seed}`;
      const before = done;
      const onStep = (step: number) => onProgress((before + step) / total, what);
      const result = await train(
        context,
        run,
        path.join(folder, 'runs', label),
        await context.device(),
        clock.signal,
        onStep,
      );
      if (!result) break;
      const line = { key, ...run, ...result };
      await appendFinished(file, line);
      await rm(path.join(folder, 'runs', label), { recursive: true, force: true });
      finished.set(key, line);
      done = before + run.steps;
    }
  } finally {
    clock.stop();
  }
  const { parameters, tokensPerStep } = await sizes(settings, text);
  return { finished: [...finished.values()], left: settings.runs.length - finished.size, parameters, tokensPerStep };
}

/** A signal that also aborts when the time is up. */
function timeLimit(minutes: number | undefined, signal: AbortSignal | undefined) {
  const controller = new AbortController();
  const left = minutes === undefined ? Number.POSITIVE_INFINITY : 60_000 * minutes - performance.now();
  const stop = () =>
    controller.abort(new SubbyteError('interrupted', { code: 'time-limit', op, problem: 'time is up' }));
  if (left <= 0) stop();
  // timers hold 31 bits: a longer limit is none
  const timer = left > 0 && left < 2 ** 31 ? setTimeout(stop, left) : undefined;
  return {
    signal: signal ? AbortSignal.any([signal, controller.signal]) : controller.signal,
    isUp: () => controller.signal.aborted,
    stop: () => clearTimeout(timer),
  };
}

const op = 'reproduce quartet';

type Result = Omit<FinishedRun, 'key' | keyof RunName>;

/** One training; undefined when the time was up, its checkpoint kept. */
async function train(
  { settings, text, signal }: StudyContext,
  run: RunName,
  folder: string,
  backend: Backend,
  limit: AbortSignal,
  onStep: (step: number) => void,
): Promise<Result | undefined> {
  const config = settings.configOf(run, folder);
  const tokensPerStep = config.batch.sequences * config.batch.accumulate * config.batch.tokens;
  const device = backend.description;
  const tokens = run.steps * tokensPerStep;
  try {
    const trained = await runTraining(config, await prepare(settings, run, text), backend, {
      signal: limit,
      onStep: ({ step }) => onStep(step),
    });
    const { seconds, memoryBytes, validation } = trained;
    if (!validation) throw new Error('study: no validation loss');
    const curve = binned(loggedLosses(trained.log), run.steps);
    return { loss: validation.nll, tokens, seconds, memoryBytes, device, curve };
  } catch (error) {
    if (!(error instanceof SubbyteError)) throw error;
    if (error.kind === 'interrupted' && limit.aborted && !signal?.aborted) return undefined;
    if (error.details.code === 'training-diverged')
      return { loss: null, reason: error.details.problem, tokens, seconds: 0, memoryBytes: 0, device, curve: [] };
    if (error.kind !== 'interrupted') throw error;
    const fix = 'run the same command again to continue where it stopped';
    throw new SubbyteError('interrupted', { ...error.details, fix }, { cause: error });
  }
}

async function prepare(
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

async function sizes(settings: Settings, text: StudyText) {
  const { weights } = await prepare(settings, settings.runs[0], text);
  const { sequences, accumulate, tokens } = settings.configOf(settings.runs[0], 'any').batch;
  const counts = linearWeights(weights.config).map((name) => elementCount(weights.shape(name)));
  return { parameters: counts.reduce((sum, n) => sum + n, 0), tokensPerStep: sequences * accumulate * tokens };
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
