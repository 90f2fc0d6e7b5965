// The trainings of the component study: every scheme from the same first weights, on the same batches, for each seed.
//
// Finished trainings are lines of runs.jsonl; one that was stopped goes on from its checkpoint in runs/, so a study can be
// spread over calls with a time limit each. A training whose loss stops being finite is a result too. Lanes take trainings
// from one queue; how many lanes there are changes no loss.

import { existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import path from 'node:path';
import { SubbyteError } from '../../src/errors.ts';
import { makeFolder } from '../../src/io/make-folder.ts';
import { linearWeights } from '../../src/models/tensors.ts';
import { elementCount } from '../../src/tensor/shape.ts';
import { appendFinished, type FinishedRun, readFinished, runKey } from './finished.ts';
import { type Lane, prepareRun } from './lane.ts';
import type { RunName, Settings } from './settings.ts';
import type { StudyText } from './texts.ts';
import { sinceStart, timeLimit } from './time-limit.ts';

export interface StudyContext {
  readonly settings: Settings;
  readonly text: StudyText;
  readonly folder: string;
  /** What trains, one training each at a time: opened when the first is needed, as many as `trainings` can use. */
  openLanes(trainings: number): Promise<readonly Lane[]>;
  readonly signal?: AbortSignal;
  /** Since the start of the process. */
  readonly minutes?: number;
  /** The process's clock in seconds, for tests. */
  readonly now?: () => number;
  onProgress(fraction: number, what: string): void;
  /** A training has ended, in this call. */
  onFinished?(run: FinishedRun, done: number, all: number): void;
}

export interface Study {
  /** The finished trainings of these settings, in the order of the settings. */
  readonly finished: readonly FinishedRun[];
  readonly left: number;
  /** Weights of the linear layers, N of the laws. */
  readonly parameters: number;
  readonly tokensPerStep: number;
}

interface Queued {
  readonly key: string;
  readonly run: RunName;
  /** Of its checkpoints and log. */
  readonly folder: string;
}

/** Trains what is not finished yet, until all is or the time is up. Throws `interrupted` when the signal aborts. */
export async function runStudy(context: StudyContext): Promise<Study> {
  const { settings, text, folder } = context;
  const file = path.join(folder, 'runs.jsonl');
  await makeFolder(folder);
  const all: readonly Queued[] = settings.runs.map((run) => {
    const key = runKey(settings, run, text.digest);
    return { key, run, folder: path.join(folder, 'runs', `${run.scheme}-${run.seed}-${key}`) };
  });
  const known = new Map((await readFinished(file)).map((run) => [run.key, run]));
  const finished = new Map<string, FinishedRun>();
  for (const { key } of all) {
    const run = known.get(key);
    if (run) finished.set(key, run);
  }
  const queue = all.filter(({ key }) => !finished.has(key));
  if (queue.length > 0) await trainAll(context, file, queue, finished);
  const { parameters, tokensPerStep } = await sizes(settings, text);
  const inOrder = all.flatMap(({ key }) => finished.get(key) ?? []);
  return { finished: inOrder, left: all.length - inOrder.length, parameters, tokensPerStep };
}

/** Empties the queue into `finished`, as far as the time reaches. */
async function trainAll(
  context: StudyContext,
  file: string,
  queue: Queued[],
  finished: Map<string, FinishedRun>,
): Promise<void> {
  const { settings, signal, minutes, now = sinceStart, onProgress, onFinished } = context;
  const limit = timeLimit(minutes, signal, now);
  const failed = new AbortController();
  const stopping = AbortSignal.any([limit.signal, failed.signal]);
  const progress = stepProgress(settings, finished, onProgress);
  const takeNext = () => {
    // one that was stopped has little left
    const at = queue.findIndex((next) => existsSync(next.folder) || limit.allows(next.run.steps));
    return at < 0 || stopping.aborted ? undefined : queue.splice(at, 1)[0];
  };
  const work = async (lane: Lane) => {
    let isFirst = true;
    for (let next = takeNext(); next; next = takeNext()) {
      const { key, run, folder } = next;
      const began = now();
      const onStep = (step: number) => progress(run, step);
      onStep(0);
      const result = await lane.train({ run, folder, signal: stopping, onStep });
      const line = { key, ...run, ...result };
      await appendFinished(file, line);
      await rm(folder, { recursive: true, force: true });
      finished.set(key, line);
      limit.took(run.steps, now() - began, line.seconds, isFirst);
      isFirst = false;
      onFinished?.(line, finished.size, settings.runs.length);
    }
  };
  let lanes: readonly Lane[] = [];
  try {
    if (limit.isUp()) return;
    lanes = await context.openLanes(queue.length);
    const ends = await Promise.allSettled(
      lanes.map((lane) =>
        work(lane).catch((error) => {
          // the others keep what they have
          failed.abort(new SubbyteError('interrupted', { code: 'stopped', op, problem: 'another training failed' }));
          throw error;
        }),
      ),
    );
    const errors = ends.flatMap((end) => (end.status === 'rejected' ? [end.reason as unknown] : []));
    const failure = errors.find((error) => !isInterruption(error));
    if (failure !== undefined) throw failure;
    if (!signal?.aborted) return;
    const details =
      signal.reason instanceof SubbyteError ? signal.reason.details : { code: 'interrupted', op, problem: 'stopped' };
    const fix = 'run the same command again to continue where it stopped';
    throw new SubbyteError('interrupted', { ...details, fix }, { cause: signal.reason });
  } finally {
    limit.stop();
    await Promise.all(lanes.map((lane) => lane.close()));
  }
}

const op = 'reproduce quartet';

const isInterruption = (error: unknown): error is SubbyteError =>
  error instanceof SubbyteError && error.kind === 'interrupted';

/** Reports the share of all steps that is done, when a training has made a step. */
function stepProgress(
  settings: Settings,
  finished: ReadonlyMap<string, FinishedRun>,
  onProgress: StudyContext['onProgress'],
): (run: RunName, step: number) => void {
  const total = settings.runs.reduce((sum, run) => sum + run.steps, 0);
  const before = [...finished.values()].reduce((sum, run) => sum + run.steps, 0);
  const steps = new Map<RunName, number>();
  return (run, step) => {
    steps.set(run, step);
    const made = [...steps.values()].reduce((sum, n) => sum + n, 0);
    onProgress((before + made) / total, `${run.scheme}, seed ${run.seed}`);
  };
}

async function sizes(settings: Settings, text: StudyText) {
  const { weights } = await prepareRun(settings, settings.runs[0], text);
  const { sequences, accumulate, tokens } = settings.configOf(settings.runs[0], 'any').batch;
  const counts = linearWeights(weights.config).map((name) => elementCount(weights.shape(name)));
  return { parameters: counts.reduce((sum, n) => sum + n, 0), tokensPerStep: sequences * accumulate * tokens };
}
