// A lane on a thread of its own: trainings side by side, each on WebAssembly with one thread.
//
// A small model's step is hundreds of kernels of microseconds. Threads that share them wait for each other after each
// one; trainings that share nothing do not, and end with the same bits (results do not depend on the number of threads).

import { Worker } from 'node:worker_threads';
import { type ErrorDetails, type ErrorKind, SubbyteError } from '../../src/errors.ts';
import type { StudyOptions } from '../../src/report/reproduction.ts';
import type { Lane, Result, Training } from './lane.ts';
import type { RunName } from './settings.ts';

/** What a worker needs to open the same study. */
export interface WorkerStudy {
  readonly options: StudyOptions;
  readonly seed: number;
  /** Holds the token files already. */
  readonly cache: string;
}

/** Sent to the worker. `stop`: abort the training under way. */
export type Request = { readonly run: RunName; readonly folder: string } | 'stop';

/** Sent back: first `ready`, then steps and one outcome for each training. */
export type Reply =
  | 'ready'
  | { readonly step: number }
  | { readonly result: Result }
  | { readonly failure: { readonly kind: ErrorKind; readonly details: ErrorDetails } | { readonly stack: string } };

/** Source or compiled, as this file. */
const program = new URL(`../quartet-worker${import.meta.url.endsWith('.ts') ? '.ts' : '.js'}`, import.meta.url);

/** Starts a worker; throws what opening the study there throws. */
export async function openWorkerLane(study: WorkerStudy): Promise<Lane> {
  const worker = new Worker(program, { workerData: study });
  let answer: { resolve(reply: Reply): void; reject(error: unknown): void } | undefined;
  let onStep: (step: number) => void = () => {};
  let dead: unknown;
  const next = () =>
    new Promise<Reply>((resolve, reject) => {
      if (dead) reject(dead);
      else answer = { resolve, reject };
    });
  const fail = (error: unknown) => {
    dead ??= error;
    answer?.reject(dead);
  };
  worker.on('message', (reply: Reply) => {
    if (typeof reply === 'object' && 'step' in reply) onStep(reply.step);
    else answer?.resolve(reply);
  });
  worker.on('error', fail);
  worker.on('exit', (code) => fail(new Error(`quartet: a worker ended with code ${code}`)));
  const close = async () => void (await worker.terminate());
  try {
    throwFailure(await next());
  } catch (error) {
    await close();
    throw error;
  }
  return {
    async train({ run, folder, signal, onStep: report }: Training): Promise<Result> {
      signal.throwIfAborted();
      onStep = report;
      const outcome = next();
      const stop = () => worker.postMessage('stop' satisfies Request);
      signal.addEventListener('abort', stop);
      try {
        worker.postMessage({ run, folder } satisfies Request);
        const reply = await outcome;
        throwFailure(reply);
        if (typeof reply === 'object' && 'result' in reply) return reply.result;
        throw new Error('quartet: a worker gave no result');
      } finally {
        signal.removeEventListener('abort', stop);
      }
    },
    close,
  };
}

function throwFailure(reply: Reply): void {
  if (typeof reply !== 'object' || !('failure' in reply)) return;
  const { failure } = reply;
  if ('kind' in failure) throw new SubbyteError(failure.kind, failure.details);
  throw new Error(`quartet: a worker failed: ${failure.stack}`);
}
